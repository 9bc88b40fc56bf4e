// Package suggest finds the word that somebody most likely meant.
package suggest

import "strings"

// maxWord bounds the words that are compared, in bytes: comparing takes time
// proportional to the product of two lengths, and words may come from strangers.
const maxWord = 64

// Nearest returns the known word that is most like word, and false when none
// is like it. Case, "_" and "-" do not count; a known word that starts with
// word is like it. Of equally near words the first one wins.
func Nearest(word string, known []string) (string, bool) {
	w := fold(word)
	if w == "" || len(w) > maxWord {
		return "", false
	}
	best, found := 1+(len(w)+1)/3, "" // one edit in three letters still looks like a slip
	for _, k := range known {
		f := fold(k)
		if len(f) > maxWord {
			continue
		}
		d := distance(w, f)
		if len(w) >= 3 && strings.HasPrefix(f, w) {
			d = min(d, 1)
		}
		if d < best {
			best, found = d, k
		}
	}
	return found, found != ""
}

func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to turn a into b (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := 1
			if a[i-1] == b[j-1] {
				replace = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
