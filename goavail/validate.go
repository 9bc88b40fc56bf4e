package goavail

// Validate says what New would find wrong with cfg, without touching anything. It fails
// with Invalid.
func (cfg Config) Validate() error { return cfg.withDefaults().validate() }
