package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pancake-stack/pancake/goavail/client"
)

// message is the body of one request.
type message struct{ body []byte }

// maxText bounds a text that is sent, in bytes: Slack cuts off beyond 40,000 characters,
// PagerDuty refuses a summary beyond 1,024.
const (
	maxText    = 8000
	maxSummary = 1000
)

// messages turns an entry into what a hook takes.
func (t *Teller) messages(h Hook, e client.Entry) []message {
	switch h.Kind {
	case Slack:
		return []message{encode(map[string]string{"text": slackText(t.cfg.Cluster, e)})}
	case PagerDuty:
		return t.pages(h, e)
	}
	return []message{encode(struct {
		Cluster string `json:"cluster"`
		client.Entry
	}{t.cfg.Cluster, e})}
}

func encode(v any) message {
	body, _ := json.Marshal(v) // texts, times and numbers always can be
	return message{body}
}

// slackText says what happened. Slack reads & < > as markup.
func slackText(cluster string, e client.Entry) string {
	mark := map[string]string{client.KindChange: ":arrows_counterclockwise:", client.KindDrift: ":warning:", client.KindAlert: ":rotating_light:"}[e.Kind]
	text := e.Text
	switch {
	case e.Unsure:
		text += "\nNobody knows whether it was done: " + e.Error
	case e.Error != "":
		mark = ":rotating_light:"
		text += "\nIt failed: " + e.Error
	}
	if e.Over {
		mark = ":white_check_mark:"
	}
	text = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(cut(text, maxText))
	return strings.TrimSpace(fmt.Sprintf("%s *%s* (%s): %s", mark, cluster, e.Place, text))
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// page is an event of PagerDuty's Events API, version 2.
type page struct {
	Key     string       `json:"routing_key"`
	Action  string       `json:"event_action"` // trigger or resolve
	Dedup   string       `json:"dedup_key"`
	Client  string       `json:"client,omitempty"`
	Payload *pagePayload `json:"payload,omitempty"`
}

type pagePayload struct {
	Summary   string       `json:"summary"`
	Source    string       `json:"source"`
	Severity  string       `json:"severity"`
	Timestamp string       `json:"timestamp"`
	Component string       `json:"component,omitempty"`
	Group     string       `json:"group,omitempty"`
	Details   client.Entry `json:"custom_details"`
}

// pages triggers an incident for each member that is taken out because it is down, which
// is resolved once it is put in again, and one for each alert, which is resolved once that
// is over. All agents use the same keys, so that another one may resolve what one triggered.
func (t *Teller) pages(h Hook, e client.Entry) []message {
	var out []message
	page := func(action, about, severity, summary string) {
		p := page{Key: h.Key, Action: action, Dedup: dedup(t.cfg.Cluster, about), Client: "pancake goavail"}
		if action == "trigger" {
			p.Payload = &pagePayload{
				Summary: cut(t.cfg.Cluster+": "+summary, maxSummary), Source: e.Place, Severity: severity,
				Timestamp: e.At.UTC().Format("2006-01-02T15:04:05.000Z"), Component: e.Set, Group: t.cfg.Cluster, Details: e,
			}
		}
		out = append(out, encode(p))
	}
	switch e.Kind {
	case client.KindAlert:
		about := "alert " + e.Text
		if e.Alert != "" {
			about = "alert " + e.Alert
		}
		action := "trigger"
		if e.Over {
			action = "resolve"
		}
		page(action, about, "critical", e.Text)
	case client.KindChange:
		if e.Error != "" {
			break // an alert follows if that goes on
		}
		for _, m := range e.Moves {
			about := "member " + e.Set + " " + m.Value
			switch {
			case m.In:
				page("resolve", about, "", "")
			case m.Rule == "down":
				page("trigger", about, "error", fmt.Sprintf("%s was taken out of %s: %s", m.Value, e.Set, m.Reason))
			}
		}
	case client.KindDrift:
		page("trigger", "drift "+e.Set, "warning", e.Text)
	}
	return out
}

// dedup names an incident in at most 255 characters.
func dedup(cluster, about string) string {
	sum := sha256.Sum256([]byte(cluster + "\x00" + about))
	return "goavail-" + hex.EncodeToString(sum[:16])
}
