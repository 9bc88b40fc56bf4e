package route53

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/smithy-go"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// Limits of one batch, with some room below Route 53's 1,000 records and 32,000 characters.
const (
	maxRecords    = 900
	maxCharacters = 28_000
)

// unit is what has to be in one batch: the changes of the sets that share a mark.
type unit struct {
	changes             []types.Change
	records, characters int
}

// Apply makes the changes, zone by zone.
func (p *Provider) Apply(ctx context.Context, changes []dns.Change) error {
	byZone := map[string]map[string][]dns.Change{} // by zone and mark
	var problems []error
	for _, c := range changes {
		if c.After.Type == dns.Check {
			problems = append(problems, p.applyChecks(ctx, c))
			continue
		}
		zone, err := p.zone(ctx, c.After.Name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if byZone[zone] == nil {
			byZone[zone] = map[string][]dns.Change{}
		}
		mark := dns.MarkName(c.After.Key)
		byZone[zone][mark] = append(byZone[zone][mark], c)
	}
	for _, zone := range slices.Sorted(maps.Keys(byZone)) {
		var units []unit
		for _, mark := range slices.Sorted(maps.Keys(byZone[zone])) {
			u, err := plan(byZone[zone][mark])
			if err != nil {
				problems = append(problems, err)
			} else if len(u.changes) > 0 {
				units = append(units, u)
			}
		}
		for len(units) > 0 {
			n := fit(units)
			problems = append(problems, pace.Isolate(units[:n], func(some []unit) error { return p.send(ctx, zone, some) }))
			units = units[n:]
		}
	}
	return pace.Join(problems...)
}

// fit says how many of the units go into one batch, at least one.
func fit(units []unit) int {
	records, characters := 0, 0
	for i, u := range units {
		records, characters = records+u.records, characters+u.characters
		if i > 0 && (records > maxRecords || characters > maxCharacters) {
			return i
		}
	}
	return len(units)
}

func (p *Provider) send(ctx context.Context, zone string, units []unit) error {
	var all []types.Change
	for _, u := range units {
		all = append(all, u.changes...)
	}
	_, err := p.api.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &zone,
		ChangeBatch:  &types.ChangeBatch{Changes: all, Comment: aws.String("pancake goavail")},
	})
	if err != nil {
		return p.explain("change records of zone "+zone, true, err)
	}
	return nil
}

// explain also keeps other calls back, or reads the zones again, where that helps.
func (p *Provider) explain(doing string, write bool, err error) error {
	err = explain(doing, write, err)
	if dns.ReasonOf(err) == dns.RateLimited {
		p.pace.Hold(dns.RetryAfter(err))
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "NoSuchHostedZone" {
		p.forgetZones()
	}
	return err
}

// add puts a change from one state of a record set to another into the unit: the old
// one is deleted as it was, which fails if it is not so any more.
func (u *unit) add(before, after *types.ResourceRecordSet) {
	if reflect.DeepEqual(before, after) {
		return
	}
	for action, set := range map[types.ChangeAction]*types.ResourceRecordSet{types.ChangeActionDelete: before, types.ChangeActionCreate: after} {
		if set == nil {
			continue
		}
		for _, r := range set.ResourceRecords {
			u.records, u.characters = u.records+1, u.characters+len(aws.ToString(r.Value))
		}
		change := types.Change{Action: action, ResourceRecordSet: set}
		if action == types.ChangeActionDelete {
			u.changes = slices.Insert(u.changes, 0, change)
		} else {
			u.changes = append(u.changes, change)
		}
	}
}

// plan finds the changes of the sets that share a mark.
func plan(changes []dns.Change) (unit, error) {
	var u unit
	var old, mark *types.ResourceRecordSet
	for i, c := range changes {
		var v version
		if err := json.Unmarshal([]byte(c.Before.Version), &v); err != nil {
			return u, conflict("%s: the set was not read before it is changed", c.After.Key)
		}
		if i == 0 {
			old, mark = v.Mark, v.Mark
		} else if !reflect.DeepEqual(old, v.Mark) {
			return u, conflict("%s: sets of one name were read at different times", c.After.Key)
		}
		if c.Edits().None() {
			continue
		}
		after, err := planSet(c, v)
		if err != nil {
			return u, err
		}
		u.add(v.Set, after)
		result := c.Result()
		mark = withMark(mark, c.After.Key, result.Owner())
	}
	u.add(old, mark)
	return u, nil
}

// planSet makes the record set that c wants out of the one that there is; nil for none.
func planSet(c dns.Change, v version) (*types.ResourceRecordSet, error) {
	key := c.After.Key
	edits, result := c.Edits(), c.Result()
	switch {
	case v.Set != nil && v.Set.AliasTarget != nil:
		return nil, refused("%s: this is an alias of AWS's, which goavail does not change", key)
	case len(edits.Create) > 0 && len(c.Before.Members) > 0 && c.Before.Owner() == "" && len(edits.Mark) == 0:
		return nil, refused("%s: the set belongs to nobody that goavail knows; adopt it first", key)
	case len(result.Members) == 0:
		return nil, nil
	}
	after := &types.ResourceRecordSet{}
	if v.Set != nil {
		*after = *v.Set
	} else {
		var err error
		if after, err = fresh(result); err != nil {
			return nil, err
		}
	}
	after.ResourceRecords = nil
	if v.Set != nil { // what stays is written as it was
		for _, r := range v.Set.ResourceRecords {
			if _, stays := result.Find(value(key.Type, aws.ToString(r.Value))); stays {
				after.ResourceRecords = append(after.ResourceRecords, r)
			}
		}
	}
	for _, m := range edits.Create {
		after.ResourceRecords = append(after.ResourceRecords, types.ResourceRecord{Value: aws.String(m.Value)})
	}
	return after, nil
}

// withMark is the record set of marks with another owner for one set, "" for none.
func withMark(mark *types.ResourceRecordSet, key dns.Key, owner string) *types.ResourceRecordSet {
	after := &types.ResourceRecordSet{
		Name: aws.String(dns.MarkName(key)), Type: types.RRTypeTxt, TTL: aws.Int64(markTTL),
	}
	if mark != nil {
		*after = *mark
		after.ResourceRecords = slices.DeleteFunc(slices.Clone(mark.ResourceRecords), func(r types.ResourceRecord) bool {
			return isMark(aws.ToString(r.Value), key.Set)
		})
		if len(after.ResourceRecords) < len(mark.ResourceRecords) && markOwner(mark, key.Set) == owner {
			return mark
		}
	}
	if owner != "" {
		after.ResourceRecords = append(after.ResourceRecords, types.ResourceRecord{Value: aws.String(markText(owner, key.Set))})
	}
	if len(after.ResourceRecords) == 0 {
		return nil
	}
	return after
}

// markTTL of the records that mark sets, in seconds: nobody resolves them.
const markTTL = 300

// Check reads the sets, and tries to delete something that does not exist.
func (p *Provider) Check(ctx context.Context, keys []dns.Key) error {
	if _, err := p.login.Retrieve(ctx); err != nil && ctx.Err() == nil {
		return refused("no credentials for Route 53: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or give the machine a role: %w", err)
	}
	var problems []error
	byZone := map[string][]types.Change{}
	tried := map[string]bool{}
	for _, key := range keys {
		_, err := p.Read(ctx, []dns.Key{key})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if key.Type == dns.Check {
			problems = append(problems, p.mayUpdate(ctx, key))
			continue
		}
		zone, err := p.zone(ctx, key.Name)
		if err != nil {
			problems = append(problems, err)
		} else if name := dns.MarkName(key); !tried[name] {
			tried[name] = true
			byZone[zone] = append(byZone[zone], types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &types.ResourceRecordSet{
				Name: &name, Type: types.RRTypeTxt, TTL: aws.Int64(1),
				ResourceRecords: []types.ResourceRecord{{Value: aws.String(`"pancake goavail: may this be written?"`)}},
			}})
		}
	}
	for zone, changes := range byZone {
		for some := range slices.Chunk(changes, maxRecords/3) {
			problems = append(problems, p.mayWrite(ctx, zone, some))
		}
	}
	return pace.Join(problems...)
}

// mayWrite deletes records that do not exist: who may, hears that they do not.
func (p *Provider) mayWrite(ctx context.Context, zone string, changes []types.Change) error {
	err := p.send(ctx, zone, []unit{{changes: changes}})
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "InvalidChangeBatch" {
		return nil
	}
	return err
}
