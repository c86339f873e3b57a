package scenarios

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

//go:embed library/*.yaml
var library embed.FS

// Entry is a scenario that comes with gameday.
type Entry struct {
	// Name as in the file: upgrade-under-fire.
	Name string
	// File is its path in the source tree, for messages.
	File string
	Data []byte
}

// Library lists the scenarios that come with gameday, by name.
func Library() ([]Entry, error) {
	files, err := library.ReadDir("library")
	if err != nil {
		return nil, fmt.Errorf("read the library: %w", err)
	}
	var out []Entry
	for _, f := range files {
		data, err := library.ReadFile(path.Join("library", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the library: %w", err)
		}
		out = append(out, Entry{
			Name: strings.TrimSuffix(f.Name(), ".yaml"),
			File: path.Join("scenarios/library", f.Name()),
			Data: data,
		})
	}
	return out, nil
}
