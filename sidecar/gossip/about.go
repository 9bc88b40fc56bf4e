package gossip

// about is what a node says of itself to all members: memberlist's metadata.
type about struct {
	version, http, zone string
}

const aboutVersion = 1

// encode returns at most limit bytes: a version, then texts with their lengths. A
// later release may append to it. What is too long is left out.
func (a about) encode(limit int) []byte {
	b := []byte{aboutVersion}
	for _, text := range []string{a.version, a.http, a.zone} {
		if len(b)+len(text)+2 > limit {
			text = ""
		}
		b = literal(b, text)
	}
	return b
}

// readAbout reads what a peer says, nothing from what cannot be read.
func readAbout(b []byte) about {
	if len(b) == 0 || b[0] != aboutVersion {
		return about{}
	}
	d := newDecoder(b[1:])
	a := about{string(d.bytes(maxName)), string(d.bytes(maxName)), string(d.bytes(maxName))}
	if d.err != nil {
		return about{}
	}
	return a
}
