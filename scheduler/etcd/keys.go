package etcd

import (
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// The schema. Values are the words as JSON.
//
//	/pancake/v1/version                               "1"
//	/pancake/v1/requests/<request>                    pancake.Request
//	/pancake/v1/deploys/<request>/<deploy>            pancake.Deploy
//	/pancake/v1/tasks/<task>                          pancake.Task, live
//	/pancake/v1/agents/<agent>                        pancake.Agent
//	/pancake/v1/history/tasks/<request>/<time>-<task> pancake.Task, ended; time in Unix milliseconds
//	/pancake/v1/leader/<lease>                        state.Leader; the oldest one leads
const (
	root       = "/pancake/v1/"
	versionKey = root + "version"
	requests   = root + "requests/"
	deploys    = root + "deploys/"
	tasks      = root + "tasks/"
	agents     = root + "agents/"
	ended      = root + "history/tasks/"
	leader     = root + "leader"
)

// schema is the version of the layout above. It grows when an older scheduler
// could no longer read what a newer one wrote.
const schema = 1

func deployKey(d *pancake.Deploy) string { return deploys + d.RequestID + "/" + d.ID }

func endedKey(t *pancake.Task) string {
	return fmt.Sprintf("%s%s/%013d-%s", ended, t.RequestID, t.Status.Updated.UnixMilli(), t.ID)
}

// write is one key, or all keys below a prefix, to be put or deleted.
type write struct {
	key    string
	value  string // "" deletes
	prefix bool
}

func (w write) op() clientv3.Op {
	switch {
	case w.prefix:
		return clientv3.OpDelete(w.key, clientv3.WithPrefix())
	case w.value == "":
		return clientv3.OpDelete(w.key)
	}
	return clientv3.OpPut(w.key, w.value)
}

func puts[T any](out []write, values []*T, key func(*T) string) ([]write, error) {
	for _, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", key(v), err)
		}
		out = append(out, write{key: key(v), value: string(b)})
	}
	return out, nil
}

// writes turns a change into what it does to the keys.
func writes(c state.Change) (out []write, err error) {
	if out, err = puts(out, c.Requests, func(r *pancake.Request) string { return requests + r.ID }); err != nil {
		return nil, err
	}
	if out, err = puts(out, c.Deploys, deployKey); err != nil {
		return nil, err
	}
	if out, err = puts(out, c.Agents, func(a *pancake.Agent) string { return agents + a.ID }); err != nil {
		return nil, err
	}
	if out, err = puts(out, c.Tasks, func(t *pancake.Task) string { return tasks + t.ID }); err != nil {
		return nil, err
	}
	if out, err = puts(out, c.Ended, endedKey); err != nil {
		return nil, err
	}
	for _, t := range c.Ended {
		out = append(out, write{key: tasks + t.ID})
	}
	for _, t := range c.ForgetEnded {
		out = append(out, write{key: endedKey(t)})
	}
	for _, d := range c.ForgetDeploys {
		out = append(out, write{key: deployKey(d)})
	}
	if id := c.ForgetRequest; id != "" {
		out = append(out, write{key: requests + id},
			write{key: deploys + id + "/", prefix: true}, write{key: ended + id + "/", prefix: true})
	}
	if id := c.ForgetAgent; id != "" {
		out = append(out, write{key: agents + id})
	}
	return out, nil
}
