package main

import (
	"fmt"
	"strings"

	"github.com/traefik/paerser/cli"
	"github.com/traefik/traefik/v3/cmd"
	tcli "github.com/traefik/traefik/v3/pkg/cli"

	"github.com/pancake-stack/pancake/ingress/provider"
)

// configuration is Traefik's static configuration and ours.
type configuration struct {
	cmd.TraefikCmdConfiguration `export:"true"`

	Sidecar sidecarConfiguration `description:"Pancake's sidecar, which says what to route." export:"true"`
}

type sidecarConfiguration struct {
	URL   string `description:"Sidecar to listen to." export:"true"`
	Cache string `description:"File that keeps the last good routes for a start without the sidecar." export:"true"`
	CA    string `description:"File with the cluster's CA, for a sidecar at https://." export:"true"`
	Cert  string `description:"File with the certificate to show to a sidecar at https://." export:"true"`
	Key   string `description:"File with the certificate's key; default that of the certificate." export:"true"`
}

func newConfiguration() *configuration {
	return &configuration{
		TraefikCmdConfiguration: *cmd.NewTraefikConfiguration(),
		Sidecar:                 sidecarConfiguration{URL: provider.DefaultURL},
	}
}

// complete sets what the settings leave open, turns off what phones home, and
// checks the result.
func (c *configuration) complete() error {
	c.SetEffectiveConfiguration()
	c.Global.CheckNewVersion = false
	c.Global.SendAnonymousUsage = false
	if err := c.ValidateConfiguration(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}

// loaders read the settings: the first that finds any wins, as in Traefik.
func loaders() []cli.ResourceLoader {
	return []cli.ResourceLoader{
		fileOnly{&tcli.DeprecationLoader{}},
		fileOnly{&tcli.FileLoader{}},
		&tcli.FlagLoader{},
		&tcli.EnvLoader{},
	}
}

// fileOnly keeps a loader from looking into Traefik's default files when flags
// are given: they would silently override all flags.
type fileOnly struct{ cli.ResourceLoader }

func (l fileOnly) Load(args []string, c *cli.Command) (bool, error) {
	if len(args) > 0 && !namesFile(args) {
		return false, nil
	}
	return l.ResourceLoader.Load(args, c)
}

func namesFile(args []string) bool {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if strings.EqualFold(name, "configfile") {
			return true
		}
	}
	return false
}
