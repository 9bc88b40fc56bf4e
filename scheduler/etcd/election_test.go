package etcd_test

import (
	"context"
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// busyLeases is the lease service of an etcd that is too busy to revoke.
type busyLeases struct {
	clientv3.Lease
	kept context.Context // of the last session's keep-alive
}

func (b *busyLeases) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return nil, context.DeadlineExceeded
}

func (b *busyLeases) KeepAlive(ctx context.Context, id clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	b.kept = ctx
	return b.Lease.KeepAlive(ctx, id)
}

// A leader that stepped down and could not say so must not keep its key alive:
// nobody, itself included, could lead again.
func TestTheLeadExpiresWhenItCannotBeGivenUp(t *testing.T) {
	client := testkit.Etcd(t)
	s := open(t, client)
	leases := &busyLeases{Lease: client.Lease}
	client.Lease = leases
	t.Cleanup(func() { client.Lease = leases.Lease })
	broken := errors.New("broken")
	if err := s.Lead(t.Context(), state.Leader{ID: "one"}, func(context.Context, state.Term) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if leases.kept.Err() == nil {
		t.Error("the session is kept alive after the lead")
	}
}
