package route53

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// A health check is switched off by disabling it, so that it counts as healthy
// whatever its probes find, and inverting it, so that it counts as unhealthy. It is
// switched on by undoing both. DNS answers follow within seconds and without a
// change of records, which is why this is for failovers that must be quick.

// ownerTag is the tag that marks a health check, with its owner as value.
const ownerTag = "pancake-goavail-owner"

// maxTagged is how many resources' tags one call returns.
const maxTagged = 10

// readChecks reads the health checks that a switched set consists of.
func (p *Provider) readChecks(ctx context.Context, key dns.Key) (dns.Set, error) {
	ids := p.checks[key.Name]
	if len(ids) == 0 {
		return dns.Set{}, refused("%s: no health checks are configured for this set", key)
	}
	owners, err := p.checkOwners(ctx, ids)
	if err != nil {
		return dns.Set{}, err
	}
	set := dns.Set{Key: key}
	var versions []string
	for _, id := range ids {
		check, err := p.getCheck(ctx, id)
		if err != nil {
			return dns.Set{}, err
		}
		cfg := check.HealthCheckConfig
		inverted, disabled := aws.ToBool(cfg.Inverted), aws.ToBool(cfg.Disabled)
		m := dns.Member{Value: id, On: !inverted || !disabled, Owner: owners[id], ID: id}
		if inverted && !disabled {
			m.Owner = "" // somebody means the opposite of what the check finds: not ours to switch
		}
		set.Members = append(set.Members, m)
		versions = append(versions, fmt.Sprintf("%s=%d", id, aws.ToInt64(check.HealthCheckVersion)))
	}
	set.Version = strings.Join(versions, " ")
	return set, nil
}

func (p *Provider) getCheck(ctx context.Context, id string) (*types.HealthCheck, error) {
	out, err := p.api.GetHealthCheck(ctx, &route53.GetHealthCheckInput{HealthCheckId: &id})
	if err != nil {
		return nil, p.explain("get health check "+id, false, err)
	}
	if out.HealthCheck == nil || out.HealthCheck.HealthCheckConfig == nil {
		return nil, fmt.Errorf("get health check %s: the answer has none", id)
	}
	return out.HealthCheck, nil
}

func (p *Provider) checkOwners(ctx context.Context, ids []string) (map[string]string, error) {
	owners := map[string]string{}
	for some := range slices.Chunk(ids, maxTagged) {
		out, err := p.api.ListTagsForResources(ctx, &route53.ListTagsForResourcesInput{
			ResourceType: types.TagResourceTypeHealthcheck, ResourceIds: some,
		})
		if err != nil {
			return nil, p.explain("list the tags of health checks", false, err)
		}
		for _, s := range out.ResourceTagSets {
			for _, tag := range s.Tags {
				if aws.ToString(tag.Key) == ownerTag {
					owners[aws.ToString(s.ResourceId)] = aws.ToString(tag.Value)
				}
			}
		}
	}
	return owners, nil
}

// applyChecks marks and switches health checks, what goes on before what goes off.
func (p *Provider) applyChecks(ctx context.Context, c dns.Change) error {
	edits := c.Edits()
	switch {
	case edits.None():
		return nil
	case len(edits.Create)+len(edits.Remove) > 0:
		return refused("%s: goavail switches health checks, it does not add or remove any", c.After.Key)
	}
	now, err := p.readChecks(ctx, c.After.Key)
	if err != nil {
		return err
	}
	if now.Version != c.Before.Version {
		return conflict("%s: somebody has changed a health check since it was read", c.After.Key)
	}
	for _, m := range edits.Mark {
		if err := p.markCheck(ctx, m); err != nil {
			return err
		}
	}
	for _, on := range []bool{true, false} {
		for _, m := range edits.Switch {
			if m.On != on {
				continue
			}
			if err := p.switchCheck(ctx, m, c.Before.Version); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Provider) markCheck(ctx context.Context, m dns.Member) error {
	_, err := p.api.ChangeTagsForResource(ctx, &route53.ChangeTagsForResourceInput{
		ResourceType: types.TagResourceTypeHealthcheck, ResourceId: &m.Value,
		AddTags: []types.Tag{{Key: aws.String(ownerTag), Value: &m.Owner}},
	})
	if err != nil {
		return p.explain("tag health check "+m.Value, true, err)
	}
	return nil
}

// switchCheck updates a health check, if it still has the version that it had.
func (p *Provider) switchCheck(ctx context.Context, m dns.Member, versions string) error {
	in := &route53.UpdateHealthCheckInput{
		HealthCheckId: &m.Value, Inverted: aws.Bool(!m.On), Disabled: aws.Bool(!m.On),
	}
	for one := range strings.FieldsSeq(versions) {
		if id, number, _ := strings.Cut(one, "="); id == m.Value {
			var n int64
			if _, err := fmt.Sscan(number, &n); err != nil {
				return conflict("health check %s: the set was not read before it is changed", id)
			}
			in.HealthCheckVersion = &n
		}
	}
	if _, err := p.api.UpdateHealthCheck(ctx, in); err != nil {
		return p.explain("update health check "+m.Value, true, err)
	}
	return nil
}

// mayUpdate updates health checks that are of a later version: who may, hears that there is none.
func (p *Provider) mayUpdate(ctx context.Context, key dns.Key) error {
	var problems []error
	for _, id := range p.checks[key.Name] {
		check, err := p.getCheck(ctx, id)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		later := aws.ToInt64(check.HealthCheckVersion) + 1000
		_, err = p.api.UpdateHealthCheck(ctx, &route53.UpdateHealthCheckInput{HealthCheckId: &id, HealthCheckVersion: &later})
		if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "HealthCheckVersionMismatch" {
			continue
		}
		if err != nil {
			problems = append(problems, p.explain("update health check "+id, true, err))
		}
	}
	return pace.Join(problems...)
}
