package main

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// serviceFilter says which services are shown.
type serviceFilter struct {
	name, host, status string
	all                bool
}

func (f *serviceFilter) add(env *environment, cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(&f.host, "host", "", "only services on this `host`")
	cmd.Flags().StringVar(&f.status, "status", "", "only services with this `status`: "+strings.Join(statusWords(), ", "))
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "also services that are gone")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statusWords(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("host", completeSidecar(env, address, func(s *client.State) (out []string) {
		for name := range s.Servers {
			out = append(out, name)
		}
		return out
	}))
	cmd.ValidArgsFunction = completeSidecar(env, address, func(s *client.State) (out []string) {
		for _, h := range s.Servers {
			for _, svc := range h.Services {
				out = append(out, svc.Name)
			}
		}
		return out
	})
}

// statusWords are the statuses that --status takes.
func statusWords() []string {
	var out []string
	for s := pancake.Alive; s <= pancake.Draining; s++ {
		out = append(out, statusWord(s))
	}
	return out
}

func (f *serviceFilter) check(args []string) error {
	if len(args) > 0 {
		f.name = args[0]
	}
	f.status = strings.ToLower(f.status)
	if f.status != "" && !slices.Contains(statusWords(), f.status) {
		return pancake.Errorf(pancake.Invalid, "--status %q: use one of %s", f.status, strings.Join(statusWords(), ", "))
	}
	return nil
}

// of picks the services of a state, by name, host and id.
func (f *serviceFilter) of(state *client.State) []*pancake.Service {
	out := []*pancake.Service{}
	for _, h := range state.Servers {
		for _, s := range h.Services {
			gone := s.Status == pancake.Tombstone && !f.all && f.status == ""
			if !gone && (f.name == "" || s.Name == f.name) && (f.host == "" || s.Hostname == f.host) && (f.status == "" || statusWord(s.Status) == f.status) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b *pancake.Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func newSidecarServicesCommand(env *environment, address *string) *cobra.Command {
	var filter serviceFilter
	var wide bool
	cmd := &cobra.Command{
		Use:   "services [service]",
		Short: "List the services of the whole cluster, as one Sidecar knows them",
		Example: examples(
			"pancake sidecar services",
			"pancake sidecar services hello --wide",
			"pancake sidecar services --host node-7 --status unhealthy",
			"pancake sidecar services -o json",
		),
		Args: arguments(0, 1),
		RunE: asking(env, address, func(ctx context.Context, a *asked, args []string) error {
			if err := filter.check(args); err != nil {
				return err
			}
			state, err := a.State(ctx)
			if err != nil {
				return err
			}
			services := filter.of(state)
			if env.json() {
				return env.printJSON(services)
			}
			switch {
			case len(services) == 0 && filter == serviceFilter{}:
				env.printf("no services are announced\n")
				return nil
			case len(services) == 0:
				env.printf("no such service\n")
				return nil
			}
			for _, line := range serviceTable(env, services, wide) {
				env.printf("%s\n", line)
			}
			return nil
		}),
	}
	filter.add(env, cmd, address)
	cmd.Flags().BoolVar(&wide, "wide", false, "also show image, mode, task, and what failing checks say")
	return cmd
}

func serviceTable(env *environment, services []*pancake.Service, wide bool) []string {
	p := env.paint()
	header := []string{"SERVICE", p.paint(plain, "STATUS"), "HOST", "ID", "PORTS", "UPDATED"}
	if wide {
		header = append(header, "CREATED", "MODE", "IMAGE", "TASK", "NOTE")
	}
	var rows [][]string
	for _, s := range services {
		row := []string{
			clean(s.Name), paintStatus(p, s.Status), clean(s.Hostname), clean(s.ID), clean(servicePorts(s.Ports)), age(env.now(), s.Updated),
		}
		if wide {
			row = append(row, age(env.now(), s.Created), clean(s.ProxyMode), clean(s.Image), clean(s.Task), clean(s.Note))
		}
		rows = append(rows, row)
	}
	return table(header, rows)
}

func paintStatus(p palette, s pancake.ServiceStatus) string {
	colour := plain
	switch s {
	case pancake.Alive:
		colour = green
	case pancake.Sick:
		colour = red
	case pancake.Draining, pancake.Unknown:
		colour = yellow
	}
	return p.paint(colour, statusWord(s))
}

// servicePorts prints "10.0.0.1:31000->80, 10.0.0.1:31001/udp": where a service is
// reached, and the port that clients know it by.
func servicePorts(list []pancake.ServicePort) string {
	parts := make([]string, len(list))
	for i, port := range list {
		parts[i] = net.JoinHostPort(port.IP, strconv.FormatInt(port.Port, 10))
		if port.ServicePort != 0 {
			parts[i] += "->" + strconv.FormatInt(port.ServicePort, 10)
		}
		if port.Type != "" && port.Type != "tcp" {
			parts[i] += "/" + port.Type
		}
	}
	return strings.Join(parts, ", ")
}
