//go:build !oldest

package main

import (
	"net/http"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
)

func limit(settings *config.UpdaterConfig, timeout time.Duration) error {
	return settings.SetDefaultFetcherHTTPClient(&http.Client{Timeout: timeout})
}
