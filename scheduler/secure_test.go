package scheduler_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler"
	"github.com/pancake-stack/pancake/scheduler/authority"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/guard"
)

// cluster is a secure cluster and somebody who may do all in it.
type cluster struct {
	t      *testing.T
	etcd   *clientv3.Client
	key    identity.Secret
	sealer identity.Sealer
	*running
	operator *client.Client
	trust    identity.Bundle
}

// startSecure starts a secure scheduler on etcd; the first of a cluster with its operator.
func startSecure(t *testing.T, etcd *clientv3.Client, sealer identity.Sealer, id string, change ...func(*guard.Config)) (*running, string) {
	t.Helper()
	dir := t.TempDir()
	cfg := guard.Config{
		Client: etcd, Sealer: sealer, Cluster: "test", ID: id, DataDir: dir, Log: slog.New(slog.DiscardHandler),
	}
	for _, fn := range change {
		fn(&cfg)
	}
	g, err := guard.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, etcd, id, func(c *scheduler.Config) { c.Guard = g })
	s.URL = "https://" + s.URL
	return s, filepath.Join(dir, guard.TokenFile)
}

func newCluster(t *testing.T, change ...func(*guard.Config)) *cluster {
	t.Helper()
	key := identity.NewSealKey()
	sealer, err := identity.ParseKeySealer(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, etcd: testkit.Etcd(t), key: key, sealer: sealer}
	var token string
	c.running, token = startSecure(t, c.etcd, sealer, "one:1", change...)
	info, err := os.Stat(token)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("operator.token: %v, %v; want mode 0600", info, err)
	}
	text, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	c.trust = c.authority().Bundle()
	c.operator = c.as(strings.TrimSpace(string(text)))
	c.Client = c.operator
	eventually(t, "leads", func() bool { _, err := c.operator.Leader(t.Context()); return err == nil })
	return c
}

// as is a client that shows a token.
func (c *cluster) as(token string) *client.Client {
	return &client.Client{URL: c.URL, Token: token, HTTP: client.NewHTTP(identity.TrustTLS(c.trust, identity.Expect{Cluster: "test", Kinds: []identity.Kind{identity.Scheduler}}))}
}

// authority is another one on the same etcd, whose clock differs.
func (c *cluster) authority(off ...time.Duration) *authority.Authority {
	c.t.Helper()
	a, err := authority.Open(c.t.Context(), authority.Config{
		Client: c.etcd, Sealer: c.sealer, Cluster: "test", Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time {
			now := time.Now()
			for _, d := range off {
				now = now.Add(d)
			}
			return now
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *cluster) token(role string, groups ...string) string {
	c.t.Helper()
	made, err := c.operator.CreateToken(c.t.Context(), client.TokenBody{Type: client.APIToken, Grant: client.Grant{Role: role, Groups: groups}})
	if err != nil {
		c.t.Fatal(err)
	}
	return made.Token
}

func (c *cluster) joinToken() string {
	c.t.Helper()
	made, err := c.operator.CreateToken(c.t.Context(), client.TokenBody{Type: client.JoinToken})
	if err != nil {
		c.t.Fatal(err)
	}
	return made.Token
}

// leaf is a certificate by an authority.
func (c *cluster) leaf(a *authority.Authority, kind identity.Kind, id string, opts identity.IssueOptions) *identity.Source {
	c.t.Helper()
	key, csr := keyAndCSR(c.t)
	issued, err := a.Issue(c.t.Context(), csr, identity.Identity{Cluster: "test", Kind: kind, ID: id}, opts)
	if err != nil {
		c.t.Fatal(err)
	}
	return sourceOf(c.t, key, issued)
}

// agent is one that has a certificate.
func (c *cluster) agent(name string, cpus float64) *fakeAgent {
	c.t.Helper()
	a := newAgent(c.t, name, cpus)
	a.creds = credentials.NewTLS(c.leaf(c.authority(), identity.Agent, a.info.ID, identity.IssueOptions{}).ClientTLS(identity.Expect{}))
	return a.start(c.grpc)
}

// dial is a connection of gRPC.
func (c *cluster) dial(creds credentials.TransportCredentials) *grpc.ClientConn {
	c.t.Helper()
	conn, err := grpc.NewClient(c.grpc, grpc.WithTransportCredentials(creds))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (c *cluster) audit(q client.AuditQuery) []client.AuditEntry {
	c.t.Helper()
	page, err := c.operator.Audit(c.t.Context(), q)
	if err != nil {
		c.t.Fatal(err)
	}
	return page.Entries
}

// metrics is what GET /metrics says.
func (c *cluster) metrics() string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.URL+"/metrics", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.operator.Token)
	resp, err := c.operator.HTTP.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("metrics: %s, %v", resp.Status, err)
	}
	return string(text)
}

func (c *cluster) counts(reason identity.Reason) bool {
	return strings.Contains(c.metrics(), `pancake_scheduler_refused_total{reason="`+string(reason)+`"}`)
}

func TestRolesAndGroups(t *testing.T) {
	c := newCluster(t)
	a := c.agent("node-a", 8)
	a.set(func() { a.logs = []string{"a line\n"} })
	c.ready(t, 1)
	owned := body("1", 1, func(b *client.DeployBody) { b.Request.Group = "shop" })
	if v := c.release(t, owned); v.Deploy.State != pancake.DeploySucceeded || !strings.HasPrefix(v.Deploy.User, "token:") {
		t.Fatalf("release: %s by %q", v.Deploy.State, v.Deploy.User)
	}
	task := c.live(t)[0].ID
	scale := func(n int) func(*client.Client) error {
		return func(who *client.Client) error { _, err := who.Scale(t.Context(), "dev_hello", n); return err }
	}
	logs := func(who *client.Client) error {
		return who.Logs(t.Context(), task, 0, false, func(client.LogLine) error { return nil })
	}
	submit := func(who *client.Client) error {
		_, err := who.Submit(t.Context(), body("2", 1, func(b *client.DeployBody) { b.Request.Group = "mine" }))
		return err
	}
	remove := func(who *client.Client) error { return who.Delete(t.Context(), "dev_hello") }
	kill := func(who *client.Client) error { return who.KillTask(t.Context(), task) }
	tokens := func(who *client.Client) error { _, err := who.Tokens(t.Context(), ""); return err }
	audit := func(who *client.Client) error { _, err := who.Audit(t.Context(), client.AuditQuery{}); return err }
	rotate := func(who *client.Client) error { _, err := who.RotateCA(t.Context(), client.RotateBody{}); return err }
	show := func(who *client.Client) error { _, err := who.Request(t.Context(), "dev_hello"); return err }
	reseal := func(who *client.Client) error { return who.ResealCA(t.Context()) }
	drain := func(who *client.Client) error { _, err := who.DecommissionAgent(t.Context(), a.info.ID, 0); return err }
	freeze := func(who *client.Client) error { _, err := who.FreezeAgent(t.Context(), a.info.ID); return err }
	activate := func(who *client.Client) error { _, err := who.ActivateAgent(t.Context(), a.info.ID); return err }
	forget := func(who *client.Client) error { return who.ForgetAgent(t.Context(), a.info.ID) }

	viewer, other, ours := c.token("viewer", "shop"), c.token("deployer", "mine"), c.token("deployer", "shop")
	for _, test := range []struct {
		name, token, action, target string
		do                          func(*client.Client) error
		reason                      identity.Reason // "" if it may
	}{
		{"viewer deploys", viewer, "deploy", "dev_hello", submit, identity.WrongRole},
		{"viewer scales", viewer, "scale", "dev_hello", scale(2), identity.WrongRole},
		{"viewer deletes", viewer, "delete", "dev_hello", remove, identity.WrongRole},
		{"viewer kills", viewer, "kill", task, kill, identity.WrongRole},
		{"viewer lists tokens", viewer, "tokens", "/v1/tokens", tokens, identity.WrongRole},
		{"viewer reads the audit log", viewer, "audit", "/v1/audit", audit, identity.WrongRole},
		{"viewer replaces the CA", viewer, "ca", "/v1/ca/rotate", rotate, identity.WrongRole},
		{"viewer seals anew", viewer, "ca", "/v1/ca/reseal", reseal, identity.WrongRole},
		{"viewer drains", viewer, "drain", a.info.ID, drain, identity.WrongRole},
		{"viewer freezes", viewer, "freeze", a.info.ID, freeze, identity.WrongRole},
		{"deployer drains", ours, "drain", a.info.ID, drain, identity.WrongRole},
		{"deployer activates", ours, "activate", a.info.ID, activate, identity.WrongRole},
		{"deployer forgets an agent", ours, "forget", a.info.ID, forget, identity.WrongRole},
		{"viewer of another group reads logs", c.token("viewer", "mine"), "logs", task, logs, identity.WrongGroup},
		{"viewer of another group reads", c.token("viewer", "mine"), "read", "dev_hello", show, identity.WrongGroup},
		{"deployer of another group scales", other, "scale", "dev_hello", scale(2), identity.WrongGroup},
		{"deployer of another group takes it over", other, "deploy", "dev_hello", submit, identity.WrongGroup},
		{"deployer of the group gives it away", ours, "deploy", "dev_hello", submit, identity.WrongGroup},
		{"deployer replaces the CA", ours, "ca", "/v1/ca/rotate", rotate, identity.WrongRole},
		{"viewer of the group reads logs", viewer, "logs", task, logs, ""},
		{"viewer of the group reads", viewer, "read", "dev_hello", show, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.do(c.as(test.token))
			if test.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if pancake.KindOf(err) != pancake.Forbidden {
				t.Fatalf("got %v", err)
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(test.token, "pka_"), "_")
			seen := slices.ContainsFunc(c.audit(client.AuditQuery{Subject: "token:" + id, Action: test.action}), func(e client.AuditEntry) bool {
				return e.Result == client.AuditDenied && e.Reason == string(test.reason) && e.From == "127.0.0.1" && e.Target == test.target
			})
			if !seen || !c.counts(test.reason) {
				t.Errorf("in the audit log: %t; counted: %t", seen, c.counts(test.reason))
			}
		})
	}
	if tasks := c.live(t); len(tasks) != 1 || tasks[0].ID != task || c.state(t, a.info.ID) != pancake.AgentActive {
		t.Errorf("something changed: %+v, agent %s", tasks, c.state(t, a.info.ID))
	}
	if list, err := c.as(other).Requests(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("another group sees %d requests, %v", len(list), err)
	}
	if list, err := c.as(other).Tasks(t.Context(), "", true); err != nil || len(list) != 0 {
		t.Errorf("another group sees %d tasks, %v", len(list), err)
	}
	if v := c.release(t, body("3", 1)); v.Deploy.State != pancake.DeploySucceeded { // names no group
		t.Fatalf("release: %s %s", v.Deploy.State, v.Deploy.Message)
	}
	if r, err := c.operator.Request(t.Context(), "dev_hello"); err != nil || r.Request.Group != "shop" {
		t.Errorf("a release that names no group leaves %q, %v", r.Request.Group, err)
	}
	if err := scale(2)(c.as(ours)); err != nil {
		t.Errorf("the group's own deployer: %v", err)
	}
	if got := c.audit(client.AuditQuery{Action: "scale", Result: client.AuditOK}); len(got) != 1 || got[0].Target != "dev_hello" {
		t.Errorf("audit of the change: %+v", got)
	}
}

func TestCredentialsRefused(t *testing.T) {
	c := newCluster(t)
	revoked := c.token("operator")
	id, _, _ := strings.Cut(strings.TrimPrefix(revoked, "pka_"), "_")
	if err := c.operator.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	past := c.authority(-48 * time.Hour)
	old, _, err := past.CreateToken(t.Context(), authority.TokenSpec{Type: identity.APIToken, TTL: time.Hour, Grant: identity.Grant{Role: identity.Operator}})
	if err != nil {
		t.Fatal(err)
	}
	join := c.joinToken()
	for _, test := range []struct {
		name, token string
		reason      identity.Reason
	}{
		{"no token", "", identity.NoToken},
		{"garbage", "hunter2", identity.Malformed},
		{"a join token", join, identity.Malformed},
		{"nobody made it", identity.NewToken(identity.APIToken, identity.Fingerprint{}).Reveal(), identity.UnknownToken},
		{"revoked", revoked, identity.Revoked},
		{"expired", old.Reveal(), identity.Expired},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.as(test.token).CreateToken(t.Context(), client.TokenBody{Type: client.APIToken, Grant: client.Grant{Role: "operator"}})
			if pancake.KindOf(err) != pancake.Unauthenticated || test.token != "" && strings.Contains(err.Error(), test.token) {
				t.Fatalf("got %v", err)
			}
			if !c.counts(test.reason) {
				t.Errorf("%s is not counted", test.reason)
			}
		})
	}
	if all, err := c.operator.Tokens(t.Context(), client.APIToken); err != nil || len(all) != 3 { // the first, the revoked, the old
		t.Errorf("%d tokens, %v: one was made", len(all), err)
	}
	if got := c.audit(client.AuditQuery{Result: client.AuditDenied}); len(got) < 5 {
		t.Errorf("audit: %+v", got)
	}
	if _, err := c.as("").CA(t.Context()); err != nil {
		t.Errorf("the CA's certificate is for everybody: %v", err)
	}
	plain := &client.Client{URL: strings.Replace(c.URL, "https:", "http:", 1), Token: c.operator.Token}
	if _, err := plain.Requests(t.Context()); err == nil {
		t.Error("it answers without TLS")
	}
}

func TestCertificatesOfCallers(t *testing.T) {
	c := newCluster(t)
	other, err := identity.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	strangerKey, csr := keyAndCSR(t)
	cert, err := other.Issue(csr, identity.Identity{Cluster: "test", Kind: identity.User, ID: "eve"}, identity.IssueOptions{Grant: identity.Grant{Role: identity.Operator}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger := sourceOf(t, strangerKey, identity.Issued{Cert: cert.Raw, CAs: [][]byte{other.Cert.Raw}})
	auth := c.authority()
	user := identity.IssueOptions{Grant: identity.Grant{Role: identity.Operator}}
	bob := c.leaf(auth, identity.User, "bob", user)
	list := func(s *identity.Source) error {
		shows := identity.TrustTLS(c.trust, identity.Expect{}) // whatever the certificate's own owner thinks of it
		leaf := s.Leaf()
		shows.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}, nil
		}
		who := &client.Client{URL: c.URL, HTTP: client.NewHTTP(shows)}
		_, err := who.Tokens(t.Context(), "")
		return err
	}
	if err := list(c.leaf(auth, identity.User, "alice", user)); err != nil {
		t.Errorf("an operator's certificate: %v", err)
	}
	if err := list(bob); err != nil {
		t.Errorf("another: %v", err)
	}
	if err := c.operator.RevokeCertificates(t.Context(), client.RevokeBody{Kind: "user", ID: "bob"}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		source *identity.Source
		reason identity.Reason
	}{
		{"wrong CA", stranger, identity.WrongCA},
		{"revoked", bob, identity.Revoked},
		{"an agent", c.leaf(auth, identity.Agent, "a1", identity.IssueOptions{}), identity.WrongRole},
		{"another scheduler, for nobody", c.leaf(auth, identity.Scheduler, "s2", identity.IssueOptions{}), identity.NoToken},
		{"expired", c.leaf(c.authority(-48*time.Hour), identity.User, "dave", user), identity.Expired},
		{"a clock far ahead", c.leaf(c.authority(time.Hour), identity.User, "frank", user), identity.NotYetValid},
		{"a viewer", c.leaf(auth, identity.User, "carol", identity.IssueOptions{Grant: identity.Grant{Role: identity.Viewer}}), identity.WrongRole},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := list(test.source); err == nil {
				t.Fatal("it was let in")
			}
			eventually(t, "the refusal is counted", func() bool { return c.counts(test.reason) })
		})
	}
}

func TestJoin(t *testing.T) {
	c := newCluster(t)
	join := func(token, id string) (*agentlink.Credentials, error) {
		_, csr := keyAndCSR(t)
		conn := c.dial(credentials.NewTLS(identity.JoinTLS(identity.FingerprintOf(c.trust[0]))))
		return agentlink.NewIdentityClient(conn).Join(t.Context(), &agentlink.JoinRequest{Token: token, AgentId: id, Csr: csr})
	}
	used := c.joinToken()
	got, err := join(used, "a1")
	if err != nil || len(got.GetCertificate()) != 1 || len(got.GetTrust()) != 1 || len(got.GetGossipKeys()) != 1 {
		t.Fatalf("join: %d certificates, %v", len(got.GetCertificate()), err)
	}
	past, _, err := c.authority(-48*time.Hour).CreateToken(t.Context(), authority.TokenSpec{Type: identity.JoinToken})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, token string
		reason      identity.Reason
	}{
		{"used", used, identity.UsedToken},
		{"expired", past.Reveal(), identity.Expired},
		{"unknown", identity.NewToken(identity.JoinToken, identity.FingerprintOf(c.trust[0])).Reveal(), identity.UnknownToken},
		{"garbage", "hunter2", identity.Malformed},
		{"an API token", c.operator.Token, identity.Malformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := join(test.token, "a2"); status.Code(err) != codes.Unauthenticated {
				t.Errorf("got %v", err)
			}
			if !c.counts(test.reason) {
				t.Errorf("%s is not counted", test.reason)
			}
		})
	}
	if got := c.audit(client.AuditQuery{Action: "join", Result: client.AuditOK}); len(got) != 1 || got[0].Target != "a1" {
		t.Errorf("audit: %+v", got)
	}
}

func TestAgentsRefused(t *testing.T) {
	c := newCluster(t)
	auth := c.authority()
	for _, test := range []struct {
		name  string
		creds credentials.TransportCredentials
		code  codes.Code
	}{
		{"no certificate", credentials.NewTLS(identity.TrustTLS(c.trust, identity.Expect{})), codes.Unauthenticated},
		{"another agent's", credentials.NewTLS(c.leaf(auth, identity.Agent, "somebody", identity.IssueOptions{}).ClientTLS(identity.Expect{})), codes.Unauthenticated},
		{"a user's", credentials.NewTLS(c.leaf(auth, identity.User, "id-node-a", identity.IssueOptions{Grant: identity.Grant{Role: identity.Operator}}).ClientTLS(identity.Expect{})), codes.Unauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			link := agentlink.NewAgentLinkClient(c.dial(test.creds))
			session, err := link.Session(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = session.Send(&agentlink.AgentMessage{Message: &agentlink.AgentMessage_Register{
				Register: agentlink.NewRegister(newAgent(t, "node-a", 1).info, nil),
			}})
			if _, err := session.Recv(); status.Code(err) != test.code {
				t.Errorf("session: %v", err)
			}
		})
	}
	stream, err := agentlink.NewAgentLinkClient(c.dial(credentials.NewTLS(identity.TrustTLS(c.trust, identity.Expect{})))).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("stream: %v", err)
	}
	if agents, err := c.operator.Agents(t.Context()); err != nil || len(agents) != 0 {
		t.Errorf("agents: %+v, %v", agents, err)
	}
}

func TestRevokedAgentIsCutOff(t *testing.T) {
	c := newCluster(t)
	a := c.agent("node-a", 1)
	c.ready(t, 1)
	if err := c.operator.RevokeCertificates(t.Context(), client.RevokeBody{Kind: "agent", ID: a.info.ID}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool {
		agents, err := c.operator.Agents(t.Context())
		return err == nil && len(agents) == 1 && !agents[0].Connected
	})
	eventually(t, "it is refused when it comes back", func() bool { return c.counts(identity.Revoked) })
}

func TestRotationKeepsSessionsAndStreams(t *testing.T) {
	c := newCluster(t)
	a := c.agent("node-a", 4)
	c.ready(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan client.Event, 100)
	opened, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		first := true
		ended <- c.operator.Changed(ctx, "", func() {
			if first {
				opened <- struct{}{}
				first = false
			} else {
				events <- client.Event{}
			}
		})
	}()
	<-opened
	shared := func() *agentlink.Credentials {
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.shared) == 0 {
			return nil
		}
		return a.shared[len(a.shared)-1]
	}
	eventually(t, "the agent knows what is shared", func() bool { return len(shared().GetTrust()) == 1 && !shared().GetRenew() })
	next := func(what string, trust, keys int, renew bool) {
		t.Helper()
		eventually(t, what, func() bool {
			s := shared()
			return len(s.GetTrust()) == trust && len(s.GetGossipKeys()) == keys && s.GetRenew() == renew
		})
	}
	rotateCA := func(b client.RotateBody) {
		t.Helper()
		if _, err := c.operator.RotateCA(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	rotateKey := func(b client.RotateBody) {
		t.Helper()
		if _, err := c.operator.RotateGossipKey(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	rotateKey(client.RotateBody{})
	next("the next gossip key is handed out", 1, 2, false)
	first := shared().GetGossipKeys()[0]
	rotateKey(client.RotateBody{Advance: "introduced"})
	eventually(t, "the next gossip key is used", func() bool { return !slices.Equal(shared().GetGossipKeys()[0], first) })
	rotateKey(client.RotateBody{Advance: "switched"})
	next("the old gossip key is gone", 1, 1, false)

	rotateCA(client.RotateBody{})
	next("the next CA is trusted", 2, 1, false)
	rotateCA(client.RotateBody{Advance: "introduced"})
	next("the agent is to renew", 2, 1, true)
	newCA := c.authority().Bundle()
	eventually(t, "the scheduler shows a certificate of the new CA", func() bool {
		who := &client.Client{URL: c.URL, Token: c.operator.Token, HTTP: client.NewHTTP(identity.TrustTLS(newCA[:1], identity.Expect{}))}
		_, err := who.Requests(t.Context())
		return err == nil
	})
	rotateCA(client.RotateBody{Advance: "switched"})
	next("the old CA is gone", 1, 1, true)

	if v := c.release(t, body("1", 1)); v.Deploy.State != pancake.DeploySucceeded { // by the old agent session and the old connection
		t.Errorf("release: %s %s", v.Deploy.State, v.Deploy.Message)
	}
	eventually(t, "the stream goes on", func() bool { return len(events) > 0 })
	a.mu.Lock()
	if a.sessions != 1 {
		t.Errorf("the agent had %d sessions", a.sessions)
	}
	a.mu.Unlock()
	select {
	case err := <-ended:
		t.Errorf("the stream ended: %v", err)
	default:
	}
	cancel()
	<-ended
	if _, err := c.as(c.operator.Token).Requests(t.Context()); pancake.KindOf(err) != pancake.Unauthenticated {
		t.Errorf("a new connection of who trusts but the old CA: %v", err)
	}
}

func TestFollowerHandsOnTokensOnly(t *testing.T) {
	c := newCluster(t)
	c.agent("node-a", 4)
	c.ready(t, 1)
	two, _ := startSecure(t, c.etcd, c.sealer, "two:2")
	follower := c.as(c.operator.Token)
	follower.URL = two.URL
	eventually(t, "the follower knows the leader", func() bool {
		l, err := follower.Leader(t.Context())
		return err == nil && !l.Self
	})
	if _, err := follower.Submit(t.Context(), body("1", 1)); err != nil {
		t.Fatal(err)
	}
	if got := c.audit(client.AuditQuery{Action: "deploy"}); len(got) != 1 || got[0].From != "127.0.0.1" || got[0].Result != client.AuditOK {
		t.Errorf("audit: %+v", got)
	}
	viewer := c.as(c.token("viewer"))
	viewer.URL = two.URL
	if _, err := viewer.Scale(t.Context(), "dev_hello", 2); pancake.KindOf(err) != pancake.Forbidden {
		t.Errorf("a viewer over the follower: %v", err)
	}
	nobody := c.as("")
	nobody.URL = two.URL
	if _, err := nobody.Requests(t.Context()); pancake.KindOf(err) != pancake.Unauthenticated {
		t.Errorf("nobody over the follower: %v", err)
	}
	alice := c.leaf(c.authority(), identity.User, "alice", identity.IssueOptions{Grant: identity.Grant{Role: identity.Viewer}})
	certified := &client.Client{URL: two.URL, HTTP: client.NewHTTP(alice.ClientTLS(identity.Expect{}))}
	if list, err := certified.Requests(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("a certificate by way of a redirect: %d requests, %v", len(list), err)
	}
}

func keyAndCSR(t *testing.T) (key *ecdsa.PrivateKey, csr []byte) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if csr, err = identity.NewCSR(key); err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func sourceOf(t *testing.T, key *ecdsa.PrivateKey, issued identity.Issued) *identity.Source {
	t.Helper()
	cert, err := x509.ParseCertificate(issued.Cert)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.ParseBundle(issued.CAs)
	if err != nil {
		t.Fatal(err)
	}
	leaf := identity.Leaf{Key: key, Cert: cert, Bundle: trust} // it need not be valid now
	s, err := identity.NewSource(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
