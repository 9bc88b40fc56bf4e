package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake/scheduler/client"
)

func newGossipKeyCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "gossip-key",
		Short:   "Show and replace the key that gossip between nodes is encrypted with",
		Long:    "The nodes of a cluster encrypt their gossip with a key that each gets together with its certificate.",
		Example: examples("pancake gossip-key show", "pancake gossip-key rotate"),
		Args:    noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGossipKeyShowCommand(env), newGossipKeyRotateCommand(env))
	return cmd
}

func newGossipKeyShowCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Print which keys there are, without the keys, and how far a rotation is",
		Example: examples("pancake gossip-key show", "pancake gossip-key show -o json"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			view, err := c.GossipKeys(cmd.Context())
			if err != nil {
				return err
			}
			return env.printGossip(view)
		},
	}
}

func newGossipKeyRotateCommand(env *environment) *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the key without losing a node",
		Long: `Replace the gossip key in two phases. First all nodes learn the new key and still use
the old one; then they use the new one and still understand the old one. The phases end
by themselves; --continue ends the current one now: nodes that are not connected to a
scheduler then drop out of gossip until they are.`,
		Example: examples("pancake gossip-key rotate", "pancake gossip-key rotate --overlap 10m", "pancake gossip-key rotate --continue"),
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.client(cmd.Context())
			if err != nil {
				return err
			}
			view, err := c.GossipKeys(cmd.Context())
			if err != nil {
				return err
			}
			body, err := f.body(view.Rotation)
			if err != nil {
				return err
			}
			if view, err = c.RotateGossipKey(cmd.Context(), body); err != nil {
				return err
			}
			return env.printGossip(view)
		},
	}
	f.add(cmd)
	return cmd
}

func (e *environment) printGossip(view client.GossipView) error {
	if e.json() {
		return e.printJSON(view)
	}
	e.printf("keys %s (the first one encrypts)\n%s\n", clean(strings.Join(view.KeyIDs, ", ")), rotationText(view.Rotation, "gossip-key"))
	return nil
}
