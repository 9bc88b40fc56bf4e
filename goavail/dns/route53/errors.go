package route53

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// throttled is how long Route 53 is left alone when it gets too many requests: it does
// not say itself. Its limit is per second.
const throttled = 2 * time.Second

var errEndless = fmt.Errorf("the list has more than %d pages", maxPages)

func refused(format string, args ...any) error {
	return &dns.Error{Reason: dns.Refused, Err: fmt.Errorf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &dns.Error{Reason: dns.Conflict, Err: fmt.Errorf(format, args...)}
}

// explain says what an error of a call means for the caller.
func explain(doing string, write bool, err error) error {
	what := fmt.Errorf("%s: %w", doing, err)
	if _, ok := errors.AsType[*dns.Error](err); ok {
		return what // from the pace
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return explainCode(api, write, what)
	}
	_, lost := errors.AsType[*smithyhttp.RequestSendError](err)
	_, garbled := errors.AsType[*smithy.DeserializationError](err)
	if write && (garbled || lost && !pace.NotSent(err)) {
		return &dns.Error{Reason: dns.Unknown, Err: fmt.Errorf("%w (it may have been done)", what)}
	}
	return &dns.Error{Reason: dns.Unavailable, Err: what}
}

func explainCode(api smithy.APIError, write bool, what error) error {
	switch code := api.ErrorCode(); code {
	case "Throttling", "ThrottlingException", "PriorRequestNotComplete", "RequestLimitExceeded":
		return &dns.Error{Reason: dns.RateLimited, RetryAfter: throttled, Err: what}
	case "InvalidChangeBatch":
		for _, why := range []string{"but it was not found", "do not match the current values", "but it already exists"} {
			if strings.Contains(what.Error(), why) {
				return &dns.Error{Reason: dns.Conflict, Err: what}
			}
		}
		return &dns.Error{Reason: dns.Refused, Err: what}
	case "HealthCheckVersionMismatch":
		return &dns.Error{Reason: dns.Conflict, Err: what}
	case "AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "UnrecognizedClientException",
		"SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature",
		"MissingAuthenticationToken", "OptInRequired":
		return refused("AWS does not accept the credentials, or they do not allow this; see the IAM policy in docs/goavail/providers.md: %w", what)
	case "InternalFailure", "InternalError", "ServiceUnavailable", "UnknownError":
		if write {
			return &dns.Error{Reason: dns.Unknown, Err: fmt.Errorf("%w (it may have been done)", what)}
		}
		return &dns.Error{Reason: dns.Unavailable, Err: what}
	default:
		if api.ErrorFault() == smithy.FaultServer {
			return &dns.Error{Reason: dns.Unknown, Err: what}
		}
		return &dns.Error{Reason: dns.Refused, Err: what}
	}
}
