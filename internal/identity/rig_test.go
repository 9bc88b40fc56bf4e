package identity

import (
	"crypto/ecdsa"
	"testing"
	"time"
)

// must fails the test on an error.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newCA(t testing.TB, cluster string, now time.Time) *CA {
	t.Helper()
	return must[*CA](t)(NewCA(cluster, now))
}

func newKey(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	return key, must[[]byte](t)(NewCSR(key))
}

// leaf issues a leaf at a time, valid then or not, that trusts the CA.
func leaf(t testing.TB, ca *CA, who Identity, opts IssueOptions, at time.Time) Leaf {
	t.Helper()
	key, csr := newKey(t)
	cert, err := ca.Issue(csr, who, opts, at)
	if err != nil {
		t.Fatal(err)
	}
	return Leaf{Key: key, Cert: cert, Bundle: Bundle{ca.Cert}}
}

func source(t testing.TB, l Leaf) *Source {
	t.Helper()
	return must[*Source](t)(NewSource(l))
}

func id(kind Kind, name string) Identity { return Identity{Cluster: "c1", Kind: kind, ID: name} }
