package probe

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

func validateDNS(c Check, wrong func(string, ...any) error) error {
	if _, ok := dns.IsDomainName(c.Query); !ok || c.Query == "" {
		return wrong("query %q is not a domain name", c.Query)
	}
	if _, ok := dns.StringToType[c.Type]; !ok {
		return wrong("type %q is not a type of records", c.Type)
	}
	return nil
}

// dnsCheck asks a name server for a name; over TCP if the answer fits no packet.
func dnsCheck(c Check) func(context.Context) error {
	question, endpoint := dns.Fqdn(c.Query), c.endpoint()
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		q := new(dns.Msg).SetQuestion(question, dns.StringToType[c.Type])
		q.SetEdns0(1232, false) // what passes everywhere: DNS flag day 2020
		client := dns.Client{Timeout: c.Timeout}
		resp, _, err := client.ExchangeContext(ctx, q, endpoint)
		if err == nil && resp.Truncated {
			client.Net = "tcp"
			resp, _, err = client.ExchangeContext(ctx, q, endpoint)
		}
		switch {
		case err != nil:
			return plain(err)
		case resp.Rcode != dns.RcodeSuccess:
			return fmt.Errorf("%s is answered with %s", question, dns.RcodeToString[resp.Rcode])
		}
		return judge(resp, c)
	}
}

// judge looks for the answer that is expected.
func judge(resp *dns.Msg, c Check) error {
	want := strings.TrimSuffix(strings.ToLower(c.Answer), ".")
	found := false
	for _, rr := range resp.Answer {
		if rr.Header().Rrtype != dns.StringToType[c.Type] {
			continue
		}
		found = true
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		if got := strings.TrimSuffix(strings.ToLower(strings.Trim(data, `"`)), "."); want == "" || got == want {
			return nil
		}
	}
	if !found {
		return fmt.Errorf("%s has no %s", dns.Fqdn(c.Query), c.Type)
	}
	return fmt.Errorf("%s %s is not %s", dns.Fqdn(c.Query), c.Type, c.Answer)
}
