package verify

import (
	"encoding/json"
	"fmt"
	"sync"
)

// memory are notes that only this process remembers: of a fault that is not
// injected there is nothing to remember for another one.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) Save(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("notes: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = b
	return nil
}

func (m *memory) Load(v any) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return false, nil
	}
	return true, json.Unmarshal(m.b, v)
}
