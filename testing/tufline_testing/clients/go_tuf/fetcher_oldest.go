//go:build oldest

package main

import (
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
)

// go-tuf 2.0.0 has a timeout of its own, 15 seconds, that can't be set.
func limit(_ *config.UpdaterConfig, _ time.Duration) error {
	return nil
}
