package config

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"
)

// mask stands for the value of a secret.
const mask = "********"

// Print writes the settings as a YAML file that Apply reads, each with where
// it is from: flag, env, file or default. Secrets that are set are masked.
func Print(w io.Writer, flags *pflag.FlagSet) error {
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	visit(flags, func(f *pflag.Flag) {
		value := valueNode(f)
		value.LineComment = "# " + origin(f)
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.Name}, value)
	})
	text, err := yaml.Dump(root)
	if err != nil {
		return fmt.Errorf("print settings: %w", err)
	}
	_, err = w.Write(text)
	return err
}

func valueNode(f *pflag.Flag) *yaml.Node {
	text := f.Value.String()
	if secret(f) && text != "" && text != "[]" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: mask}
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
		for _, item := range list.GetSlice() {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item})
		}
		return n
	}
	switch f.Value.Type() {
	case "bool":
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: text}
	case "int", "int32", "int64", "uint", "uint16", "uint32", "uint64":
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: text}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
