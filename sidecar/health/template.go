package health

import (
	"errors"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"

	"github.com/pancake-stack/pancake"
)

// maxArgs bounds the arguments of a check, in bytes, before and after its template.
const maxArgs = 4 << 10

// expand fills in a check's arguments: host, tcp N and udp N (the host port
// behind ServicePort N) and container.
func (c *Checker) expand(args string, svc *pancake.Service) (string, error) {
	if len(args) > maxArgs {
		return "", pancake.Errorf(pancake.Invalid, "label %s is longer than %d bytes", pancake.LabelHealthCheckArgs, maxArgs)
	}
	port := func(kind string) func(int64) (int64, error) {
		return func(servicePort int64) (int64, error) {
			for _, p := range svc.Ports {
				if p.Type == kind && p.ServicePort == servicePort {
					return p.Port, nil
				}
			}
			return 0, pancake.Errorf(pancake.Invalid, "no published %s port has the service port %d; add the label %s<container port>=%d",
				kind, servicePort, pancake.LabelServicePort, servicePort)
		}
	}
	t, err := template.New("args").Funcs(template.FuncMap{
		"host": func() string { return c.cfg.Host }, "container": func() string { return c.cfg.Hostname },
		"tcp": port("tcp"), "udp": port("udp"),
	}).Parse(args)
	if err != nil {
		return "", pancake.Errorf(pancake.Invalid, "label %s: %w", pancake.LabelHealthCheckArgs, err)
	}
	if len(t.Templates()) > 1 || t.Tree != nil && !straight(t.Root) {
		return "", pancake.Errorf(pancake.Invalid, "label %s: loops, variables, nested templates and functions other than %s are not allowed",
			pancake.LabelHealthCheckArgs, strings.Join(functions, ", "))
	}
	out := &bounded{limit: maxArgs}
	if err := t.Execute(out, nil); err != nil {
		// The outer part only repeats the template's text and position.
		if inner, ok := errors.AsType[*pancake.Error](err); ok {
			err = inner
		}
		return "", pancake.Errorf(pancake.Invalid, "label %s: %w", pancake.LabelHealthCheckArgs, err)
	}
	return strings.TrimSpace(out.String()), nil
}

// functions are those that a template may call: ours, and of Go's those that make no text.
// printf, js and others can double a text with each call.
var functions = []string{"host", "container", "tcp", "udp", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge"}

// straight reports whether a template runs from its start to its end and keeps nothing in
// variables: labels come from whoever starts a container, who must not be able to keep us
// busy or to fill our memory.
func straight(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.ListNode:
		return n == nil || !slices.ContainsFunc(n.Nodes, func(child parse.Node) bool { return !straight(child) })
	case *parse.IfNode:
		return plainPipe(n.Pipe) && straight(n.List) && straight(n.ElseList)
	case *parse.ActionNode:
		return plainPipe(n.Pipe)
	case *parse.TextNode, *parse.CommentNode:
		return true
	}
	return false
}

// plainPipe reports whether a pipeline declares nothing and calls only functions.
func plainPipe(p *parse.PipeNode) bool {
	for _, command := range p.Cmds {
		for _, arg := range command.Args {
			switch arg := arg.(type) {
			case *parse.IdentifierNode:
				if !slices.Contains(functions, arg.Ident) {
					return false
				}
			case *parse.PipeNode:
				if !plainPipe(arg) {
					return false
				}
			case *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
			default:
				return false
			}
		}
	}
	return len(p.Decl) == 0
}

// bounded keeps the first limit bytes written to it and drops the rest.
type bounded struct {
	strings.Builder
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.Builder.Write(p[:min(len(p), max(0, b.limit-b.Len()))])
	return len(p), nil
}

// clean bounds a text in bytes and keeps it on one line and valid UTF-8.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
	}
	return s
}
