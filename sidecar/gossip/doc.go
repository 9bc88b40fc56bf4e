// Package gossip spreads the catalogue over the cluster. Membership and failure
// detection are memberlist's, tuned and checked (below); what travels is ours.
//
// # Who may say what
//
// A record is written by the Sidecar of its host, or by the bridge that mirrors
// a host, and by nobody else. That a host is dead is no record: each node
// concludes it from the membership and shows the host's services as tombstones
// until the host is a member again and vouches for them. So a wrong conclusion
// harms one node, for as long as it lasts, and a healed partition needs no
// record to be sent again.
//
// Services of living members need no refresh and do not expire. Those of hosts
// that are no members expire if the bridge that mirrors them does not say every
// 15 s that they are as they were.
//
// # How a change travels
//
// Small news go over UDP: at once to a few peers, each of which tells a few
// others, and again with memberlist's packets until each has been sent often
// enough. Packets hold many records, the urgent ones first (those that take a
// service out of traffic), and each text once. What is too much for some
// packets, or too large for one, is offered to a few peers over TCP as a
// comparison, and each of them does the same with what was new to it.
//
// # How what was lost is found
//
// Each record has a 64-bit hash; the sum over the live records of a host is that
// host's digest, the sum over all hosts the catalogue's. Each answer to a probe
// carries the digests of the one who answers: its own and the whole one, with
// how long they have been so, and one of its list of members. A difference that
// is older than what is still under way starts a comparison:
//
//  1. digests of all hosts, or of those in question
//  2. for each that differs, what there is: id, Updated and hash of each record
//  3. the records that the other has not, or older; and which ones are wanted
//  4. the wanted ones, and corrections of what was sent in vain
//
// Each step carries differences only, and may be lost: the next probe sees it.
// Lists of members that differ are put right by memberlist's full exchange.
//
// # Who is alive
//
// memberlist suspects quickly: Noticed has the arithmetic, IdleBytes what it costs.
// Its verdict is doubted. For a second more the accused may refute, answer a probe of
// ours, or take a connection, which its kernel does however little CPU it has; a port
// that refuses one is dead at once. Only then its services end here, and only here:
// the others judge for themselves. A node whose own timers are late, or that does not
// get an answer from itself in time, does not trust itself and waits for up to two
// minutes. A host that stops for an upgrade says so, and is waited for.
//
// Who was lost is remembered and tried again for ever, one member a second in
// all; seeds are looked up again each time.
//
// # Bounds
//
// Every message has a version, a kind and a size limit; decoders fail, they do
// not panic. Comparisons are limited in rate, and answered to members only.
package gossip
