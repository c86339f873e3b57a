// Package cache names the one directory in which gameday keeps what it can
// make again: built helper binaries, node image layers, extracted artifacts.
//
// It is $XDG_CACHE_HOME/gameday, or ~/.cache/gameday where that is unset.
// Everything beneath it may be deleted at any time while gameday is not
// running; the price is the time to build it again. Nothing that a heal or a
// verdict needs is ever kept here.
package cache

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir returns the folder elem... inside gameday's cache, and makes it (0755)
// when it is not there. Dir() is the cache itself.
func Dir(elem ...string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory (set XDG_CACHE_HOME or HOME): %w", err)
	}
	dir := filepath.Join(append([]string{base, "gameday"}, elem...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache directory (point XDG_CACHE_HOME at a writable place): %w", err)
	}
	return dir, nil
}
