// Package client talks to a goavail agent over HTTP.
package client

import "time"

// Status is what an agent knows.
type Status struct {
	Place   string `json:"place"` // of the agent that answers
	Cluster string `json:"cluster"`
	// Config is a hash of the configuration; it differs from other places' when theirs is another.
	Config string `json:"config"`
	// DryRun says that nothing is written until the configuration is confirmed.
	DryRun   bool           `json:"dry_run"`
	Quorum   int            `json:"quorum"` // how many places have to agree
	Writer   Writer         `json:"writer"`
	Abstains string         `json:"abstains,omitempty"` // why this agent votes on nothing
	Places   []Place        `json:"places"`
	Targets  []Target       `json:"targets"`
	Sets     []Set          `json:"sets"`
	Provider ProviderStatus `json:"provider"`
	Orders   []Order        `json:"orders,omitempty"` // that stand
	Now      time.Time      `json:"now"`
}

// Writer is who may change records.
type Writer struct {
	Place string    `json:"place,omitempty"` // "" is nobody
	Epoch uint64    `json:"epoch"`
	Me    bool      `json:"me"` // it is the agent that answers
	Until time.Time `json:"until,omitzero"`
}

// Place is one of the configured places as the agent sees it.
type Place struct {
	Name     string    `json:"name"`
	Region   string    `json:"region,omitempty"`
	Provider string    `json:"provider,omitempty"`
	Alive    bool      `json:"alive"`
	Address  string    `json:"address,omitempty"`
	Heard    time.Time `json:"heard,omitzero"`   // last
	Config   string    `json:"config,omitempty"` // see Status.Config
	// Trouble is why the place cannot use the provider, as it says; "" if it can, or has
	// not said.
	Trouble string `json:"trouble,omitempty"`
}

// Target is one target and who says what of it.
type Target struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Check   string `json:"check"`   // such as tcp :443
	Verdict string `json:"verdict"` // of the majority: up, down or unknown
	Up      int    `json:"up"`      // places
	Down    int    `json:"down"`
	Unknown int    `json:"unknown"`
	Votes   []Vote `json:"votes"` // one per configured place, by name
	// Damped is until when it will not be put back in service, unless it falls again.
	Damped time.Time `json:"damped,omitzero"`
	Order  *Order    `json:"order,omitempty"`
}

// Vote is what one place says of a target.
type Vote struct {
	Place   string `json:"place"`
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
}

// Set is one set of records.
type Set struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Set     string   `json:"set,omitempty"`
	Panic   bool     `json:"panic,omitempty"` // too many are down at once: all stay in
	Held    bool     `json:"held,omitempty"`
	Members []Member `json:"members"`
	// Live is what the provider held when it was read last, by this agent or, as far as
	// it told, by the writer; also what is not ours.
	Live []string  `json:"live"`
	Read time.Time `json:"read,omitzero"`
	// Answer is what DNS answers now, if it was asked for.
	Answer      []string `json:"answer,omitempty"`
	AnswerError string   `json:"answer_error,omitempty"`
}

// Member is one value of a set, what is to become of it, and why.
type Member struct {
	Value  string `json:"value"`
	Target string `json:"target,omitempty"`
	In     bool   `json:"in"`   // it is in service
	Want   bool   `json:"want"` // it should be
	Rule   string `json:"rule"` // what decides: up, down, unknown, hold, …
	Reason string `json:"reason"`
}

// ProviderStatus is how the provider does.
type ProviderStatus struct {
	Name  string    `json:"name"`
	Read  time.Time `json:"read,omitzero"`   // last, by this agent
	Error string    `json:"error,omitempty"` // of the last attempt
	Retry time.Time `json:"retry,omitzero"`
}

// The kinds of entries of the history.
const (
	KindChange = "change" // records were changed, or it was tried
	KindPlan   = "plan"   // what would be changed, in a dry run
	KindDrift  = "drift"  // somebody else changed records
	KindOrder  = "order"  // a person gave an order
	KindWriter = "writer" // another writer was elected
	KindAlert  = "alert"  // the provider fails, panic, a breaker: somebody should look
)

// Entry is one line of the history.
type Entry struct {
	ID    string    `json:"id"` // unique in the cluster
	At    time.Time `json:"at"`
	Kind  string    `json:"kind"`
	Place string    `json:"place"` // who did it
	Epoch uint64    `json:"epoch,omitempty"`
	Set   string    `json:"set,omitempty"` // name, type and set identifier
	// Moves are the single members of a change, a plan or a drift.
	Moves  []Move   `json:"moves,omitempty"`
	Before []string `json:"before,omitempty"` // what was in service
	After  []string `json:"after,omitempty"`  // what is
	Text   string   `json:"text"`             // for people
	Error  string   `json:"error,omitempty"`  // why it was not done
	// Unsure says that nobody knows whether it was done: the answer was lost.
	Unsure bool `json:"unsure,omitempty"`
	// Alert is what an alert is about, the same for the one that says it is Over.
	Alert string `json:"alert,omitempty"`
	Over  bool   `json:"over,omitempty"`
}

// Move is one member put in or taken out of service.
type Move struct {
	Value  string `json:"value"`
	Target string `json:"target,omitempty"`
	In     bool   `json:"in"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// Order is what a person wants.
type Order struct {
	Kind  string    `json:"kind"` // hold, maintenance, out, in, adopt or confirm
	About string    `json:"about,omitempty"`
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until,omitzero"`
	Place string    `json:"place"` // that took it
	// Over says that the order takes back the one of the same kind that stood.
	Over bool `json:"over,omitempty"`
}

// Plan is what would be changed now.
type Plan struct {
	DryRun bool  `json:"dry_run"`
	Sets   []Set `json:"sets"`
	// Diff is for people: a line per change, "+" for what is put in, "-" for what is
	// taken out. Empty means that there is nothing to do.
	Diff []string `json:"diff"`
	// Foreign lists what is not ours and stands in the way, as set and value.
	Foreign []string `json:"foreign,omitempty"`
}

// Request is the body of every POST.
type Request struct {
	// About is a target's name for drain and restore, a set's (its name, type and set
	// identifier, or just its name) for hold and adopt; "" holds everything.
	About string `json:"about,omitempty"`
	By    string `json:"by,omitempty"`
	Why   string `json:"why,omitempty"`
	// For is how long the order stands, in seconds. 0 is until it is taken back; adopt
	// stands for ten minutes.
	For int `json:"for,omitempty"`
	// Release takes a hold back.
	Release bool `json:"release,omitempty"`
	// Maintenance makes drain freeze the target as it is rather than take it out.
	Maintenance bool `json:"maintenance,omitempty"`
	// Force makes restore put the target in whatever places say, for as long as For says.
	Force bool `json:"force,omitempty"`
}
