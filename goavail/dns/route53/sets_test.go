package route53

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/pancake-stack/pancake/goavail/dns"
)

// Who has no credentials is told so, rather than that AWS is out of order.
func TestNoCredentials(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	p, err := New(t.Context(), Config{URL: "http://127.63.6.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Check(t.Context(), []dns.Key{{Name: "www.example.com", Type: dns.A}})
	if dns.ReasonOf(err) != dns.Refused || !strings.Contains(err.Error(), "no credentials for Route 53: set AWS_ACCESS_KEY_ID") {
		t.Errorf("%v", err)
	}
}

func TestOctal(t *testing.T) {
	for in, want := range map[string]string{
		`\052.example.com.`: "*.example.com.",
		`a\040b`:            "a b",
		`\052`:              "*",
		`\05`:               `\05`,
		`\999x`:             `\999x`,
		`\`:                 `\`,
		``:                  ``,
	} {
		if got := octal(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzOctal(f *testing.F) {
	f.Add(`\052.example.com.`)
	f.Fuzz(func(t *testing.T, name string) {
		if got := octal(name); len(got) > len(name) {
			t.Errorf("%q became longer: %q", name, got)
		}
	})
}

// A mark of one set is not taken for that of another one of the same name.
func TestMarks(t *testing.T) {
	key := func(set string) dns.Key { return dns.Key{Name: "www.example.com", Type: dns.A, Set: set} }
	sets := []string{"", "eu", `us "east", 1`, "eu,set=us"}
	var mark *types.ResourceRecordSet
	for _, set := range sets {
		mark = withMark(mark, key(set), "owner-of-"+set[:min(len(set), 2)])
	}
	mark.ResourceRecords = append(mark.ResourceRecords, types.ResourceRecord{Value: aws.String(`"something else"`)})
	for _, set := range sets {
		if got := markOwner(mark, set); got != "owner-of-"+set[:min(len(set), 2)] {
			t.Errorf("the owner of %q is %q", set, got)
		}
	}
	if got := markOwner(mark, "none"); got != "" {
		t.Errorf("the owner of a set without a mark is %q", got)
	}
	before := len(mark.ResourceRecords)
	if changed := withMark(mark, key("eu"), "owner-of-eu"); changed != mark {
		t.Error("the same mark is written anew")
	}
	changed := withMark(mark, key("eu"), "")
	if markOwner(changed, "eu") != "" || len(changed.ResourceRecords) != before-1 || len(mark.ResourceRecords) != before {
		t.Errorf("removing one mark: %d records, before %d", len(changed.ResourceRecords), len(mark.ResourceRecords))
	}
}

func TestFit(t *testing.T) {
	units := []unit{{records: 400}, {records: 400}, {records: 400}, {records: 5000}, {characters: 20_000}, {characters: 20_000}}
	var got []int
	for rest := units; len(rest) > 0; {
		n := fit(rest)
		got, rest = append(got, n), rest[n:]
	}
	for i, want := range []int{2, 1, 1, 1, 1} {
		if len(got) != 5 || got[i] != want {
			t.Fatalf("batches of %v", got)
		}
	}
}
