package dns

import "strings"

// heritage begins every mark, so that it is not taken for somebody else's text.
const heritage = "heritage=pancake-goavail"

// Mark is the text that says who owns a record: a comment where records have
// some, a TXT record beside it elsewhere. Owner must not contain a comma or quotes.
func Mark(owner string) string { return heritage + ",owner=" + owner }

// Owner reads a mark, also one that stands within, or is followed by, other text.
// "" means that there is none.
func Owner(text string) string {
	_, rest, found := strings.Cut(text, heritage+",owner=")
	if !found {
		return ""
	}
	end := strings.IndexAny(rest, ",\" \t\r\n;")
	if end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// MarkName is the name of the TXT record that marks a set where records have no
// comments. It differs from the set's own name, which may be a CNAME.
func MarkName(k Key) string {
	label := "_goavail-" + strings.ToLower(k.Type)
	if rest, wild := strings.CutPrefix(k.Name, "*."); wild {
		return label + "-any." + rest
	}
	return label + "." + k.Name
}
