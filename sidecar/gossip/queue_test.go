package gossip

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// packed takes one packet apart into its records, which here are one letter
// repeated.
func packed(packet []byte) string {
	if packet == nil {
		return ""
	}
	var out []byte
	body := packet[headerLen:]
	for i, b := range body {
		if i == 0 || body[i-1] != b {
			out = append(out, b)
		}
	}
	return string(out)
}

func (q *queue) letter(l byte, c class, size int) {
	q.add(key{"h", string(l)}, c, bytes.Repeat([]byte{l}, size))
}

func TestQueueSendsTheUrgentFirst(t *testing.T) {
	q := newQueue(func(c class) int { return map[class]int{urgent: 3, news: 2, refresh: 1}[c] })
	q.letter('r', refresh, 40)
	q.letter('n', news, 40)
	q.letter('u', urgent, 40)
	limit := headerLen + 80
	if got := packed(q.take(limit, 1, true)); got != "un" {
		t.Errorf("what cannot wait: %q", got)
	}
	if got := packed(q.take(limit, 1, true)); got != "" {
		t.Errorf("what cannot wait, again: %q", got)
	}
	for i, want := range []string{"un", "ur", ""} {
		if got := packed(q.take(limit, 1, false)); got != want {
			t.Errorf("packet %d: %q, want %q", i, got, want)
		}
	}
	if q.len() != 0 {
		t.Errorf("%d records are left", q.len())
	}
}

func TestQueueReplacesOlderRecords(t *testing.T) {
	q := newQueue(func(class) int { return 1 })
	q.letter('a', urgent, 10)
	q.add(key{"h", "a"}, refresh, []byte("bbbb"))
	if got := packed(q.take(1000, 1, true)); got != "b" {
		t.Errorf("got %q: the news that a repetition replaces must not wait", got)
	}
	if q.take(1000, 1, false) != nil || q.len() != 0 {
		t.Error("the old record was sent, or kept")
	}
}

// TestQueueSendsEachRecordOften fills and empties a queue at random: no packet
// is too large, and each record goes out as often as it should.
func TestQueueSendsEachRecordOften(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.IntRange(1, 5).Draw(t, "times")
		q := newQueue(func(class) int { return times })
		sent, want := map[byte]int{}, map[byte]int{}
		for i := range rapid.IntRange(1, 26).Draw(t, "records") {
			l := byte('a' + i)
			q.letter(l, class(rapid.IntRange(0, 2).Draw(t, "class")), rapid.IntRange(1, 60).Draw(t, "size"))
			want[l] = times
		}
		limit := headerLen + 60
		for packets := 0; q.len() > 0; packets++ {
			packet := q.take(limit, 1, false)
			if len(packet) > limit || packet == nil || packets > 26*5 {
				t.Fatalf("packet %d of %d bytes with %d records left", packets, len(packet), q.len())
			}
			for _, l := range packed(packet) {
				sent[byte(l)]++
			}
		}
		for l, n := range want {
			if sent[l] != n {
				t.Fatalf("%c was sent %d times, want %d", l, sent[l], n)
			}
		}
	})
}
