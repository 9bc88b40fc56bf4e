package gossip

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

// letter queues a record that has a letter as its id.
func (q *queue) letter(l string, c class, size int) {
	q.add(c, &pancake.Service{Hostname: "h", ID: l, Task: strings.Repeat("x", size)})
}

// packed lists the ids in a packet.
func packed(t interface{ Fatal(...any) }, packet []byte) string {
	if packet == nil {
		return ""
	}
	records, err := Decode(packet, limit)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, r := range records {
		out.WriteString(r.ID)
	}
	return out.String()
}

func TestQueueSendsTheUrgentFirst(t *testing.T) {
	q := newQueue(func(c class) int { return map[class]int{urgent: 3, news: 2}[c] })
	q.letter("m", news, 80)
	q.letter("n", news, 80)
	q.letter("u", urgent, 80)
	limit := headerLen + 250
	for i, want := range []string{"um", "n", ""} {
		if got := packed(t, q.take(limit, 1, true)); got != want {
			t.Errorf("what was never sent, %d: %q, want %q", i, got, want)
		}
	}
	for i, want := range []string{"um", "un", ""} {
		if got := packed(t, q.take(limit, 1, false)); got != want {
			t.Errorf("packet %d: %q, want %q", i, got, want)
		}
	}
	if q.len() != 0 {
		t.Errorf("%d records are left", q.len())
	}
}

func TestQueueReplacesOlderRecords(t *testing.T) {
	q := newQueue(func(class) int { return 1 })
	q.letter("a", urgent, 10)
	q.letter("b", news, 10)
	q.add(news, &pancake.Service{Hostname: "h", ID: "a", Name: "newer"})
	records, err := Decode(q.take(1000, 1, true), limit)
	if err != nil || len(records) != 2 || records[0].Name != "newer" {
		t.Errorf("%v %v: what replaces something urgent must not wait", records, err)
	}
	if q.take(1000, 1, false) != nil || q.len() != 0 {
		t.Error("the old record was sent, or kept")
	}
}

// What fits no packet is not in the way of what does.
func TestQueueSetsAsideTheLarge(t *testing.T) {
	q := newQueue(func(class) int { return 2 })
	q.add(urgent, &pancake.Service{Hostname: "big", ID: "1", Labels: map[string]string{"a": strings.Repeat("x", 3000)}})
	q.letter("n", news, 10)
	if got := packed(t, q.take(packetSize-overhead, 1, true)); got != "n" || !q.hasLarge() {
		t.Errorf("%q, large: %t", got, q.hasLarge())
	}
	if hosts := q.takeLarge(false); len(hosts) != 1 || hosts[0] != "big" || q.hasLarge() || q.len() != 1 {
		t.Errorf("%v, %d left", hosts, q.len())
	}
	q.letter("o", news, 10)
	if hosts := q.takeLarge(true); len(hosts) != 1 || hosts[0] != "h" {
		t.Errorf("all that was not sent yet: %v", hosts)
	}
	if got := packed(t, q.take(packetSize-overhead, 1, false)); got != "n" {
		t.Errorf("what was sent once goes on: %q", got)
	}
}

// TestQueueSendsEachRecordOften fills and empties a queue at random: no packet
// is too large, and each record goes out as often as it should.
func TestQueueSendsEachRecordOften(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.IntRange(1, 5).Draw(t, "times")
		q := newQueue(func(class) int { return times })
		sent, want := map[string]int{}, map[string]int{}
		for i := range rapid.IntRange(1, 26).Draw(t, "records") {
			l := fmt.Sprintf("%c", 'A'+i)
			q.letter(l, class(rapid.IntRange(0, 1).Draw(t, "class")), rapid.IntRange(1, 60).Draw(t, "size"))
			want[l] = times
		}
		limit := headerLen + 150
		for packets := 0; q.len() > 0; packets++ {
			packet := q.take(limit, 1, false)
			if len(packet) > limit || packet == nil || packets > 26*5 {
				t.Fatalf("packet %d of %d bytes with %d records left", packets, len(packet), q.len())
			}
			for _, l := range packed(t, packet) {
				sent[string(l)]++
			}
		}
		for l, n := range want {
			if sent[l] != n {
				t.Fatalf("%s was sent %d times, want %d", l, sent[l], n)
			}
		}
	})
}
