package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// AlertsConfig says where alerts are asked for.
type AlertsConfig struct {
	// URL of a Prometheus or an Alertmanager, as far as /api.
	URL string
	// Kind: prometheus or alertmanager; empty: seen from its answers.
	Kind string
	// TokenFile holds a bearer token; it is read each time, because tokens are
	// renewed. Empty: none is sent.
	TokenFile string
	// Names of the alerts whose rules matter.
	Names []string
}

// The kinds of sources.
const (
	kindPrometheus   = "prometheus"
	kindAlertmanager = "alertmanager"
)

const (
	// alertsEvery is how often alerts are asked for: well below the 15 s and more
	// between two evaluations of a rule (Prometheus evaluates each minute unless
	// told otherwise: https://prometheus.io/docs/prometheus/latest/configuration/configuration/,
	// evaluation_interval).
	alertsEvery = 5 * time.Second
	// rulesEvery is how often the rules are.
	rulesEvery = time.Minute
	// maxAlerts bounds what is read of an answer, in bytes.
	maxAlerts = 16 << 20
)

// alerts asks a source of alerts again and again, and records each change. When it
// could not be asked is a Gap of the source alerts.
type alerts struct {
	cfg    AlertsConfig
	record *history.Recorder
	client *http.Client
	every  time.Duration

	kind    string
	polls   int
	rules   []history.AlertRule
	rulesAt time.Time
	now     map[string]history.Alert // those that are not inactive, by identity
	// The last poll that was answered: when it was asked for, when it was answered.
	asked, answered time.Time
}

func newAlerts(cfg AlertsConfig, record *history.Recorder) *alerts {
	return &alerts{cfg: cfg, record: record, client: &http.Client{}, every: alertsEvery, kind: cfg.Kind, now: map[string]history.Alert{}}
}

// run polls until ctx ends.
func (a *alerts) run(ctx context.Context) {
	defer a.client.CloseIdleConnections()
	began := time.Now()
	reason := "" // why the polls since the last answer failed
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	gap := func(to time.Time) {
		from := began
		if !a.answered.IsZero() {
			from = a.asked
		}
		a.record.Add(history.Event{Gap: &history.Gap{Source: "alerts", From: a.record.Since(from), To: a.record.Since(to), Reason: reason}})
	}
	for {
		start := time.Now()
		found, rules, err := a.poll(ctx, start)
		end := time.Now()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			reason = short(err.Error())
		default:
			if reason == "" && !a.asked.IsZero() && start.Sub(a.asked) > 3*a.every {
				reason = "gameday did not come to ask for so long"
			}
			if reason != "" {
				gap(end)
				reason = ""
			}
			a.take(start, end, found, rules)
		}
		select {
		case <-ctx.Done():
			if reason != "" {
				gap(time.Now())
			}
			a.record.Add(history.Event{Source: &history.AlertSource{Kind: a.kind, Rules: a.rules, Polls: a.polls, Ended: true}})
			return
		case <-tick.C:
		}
	}
}

// poll asks once. rules are nil if it is not their turn.
func (a *alerts) poll(ctx context.Context, start time.Time) (found []history.Alert, rules []history.AlertRule, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.every)
	defer cancel()
	if a.kind == "" {
		if a.kind, err = a.detect(ctx); err != nil {
			return nil, nil, err
		}
	}
	if a.kind == kindAlertmanager {
		found, err = a.alertmanager(ctx)
		return found, nil, err
	}
	if found, err = a.prometheus(ctx); err != nil {
		return nil, nil, err
	}
	if start.Sub(a.rulesAt) >= rulesEvery {
		if rules, err = a.rulesOf(ctx); err != nil {
			return nil, nil, err
		}
		a.rulesAt = start
	}
	return found, rules, nil
}

// take records what changed since the answer before.
func (a *alerts) take(start, end time.Time, found []history.Alert, rules []history.AlertRule) {
	first := a.polls == 0
	var after time.Duration
	if !first {
		after = a.record.Since(a.asked)
	}
	a.polls++
	a.asked, a.answered = start, end
	if rules != nil && (first || !slices.Equal(rules, a.rules)) || first {
		a.rules = rules
		a.record.AddAt(end, history.Event{Source: &history.AlertSource{Kind: a.kind, Rules: a.rules, Polls: a.polls}})
	}
	there := map[string]bool{}
	for _, f := range found {
		key := identity(f)
		if there[key] {
			continue // of two with the same labels one rule's is told
		}
		there[key] = true
		was, known := a.now[key]
		if known && was.State == f.State {
			continue
		}
		f.After = after
		a.now[key] = f
		a.record.AddAt(end, history.Event{Alert: &f})
	}
	for _, key := range slices.Sorted(maps.Keys(a.now)) {
		if !there[key] {
			gone := a.now[key]
			delete(a.now, key)
			gone.State, gone.After, gone.Since = "inactive", after, time.Time{}
			a.record.AddAt(end, history.Event{Alert: &gone})
		}
	}
}

// identity tells an instance of an alert from all others: its name and labels.
func identity(a history.Alert) string {
	var b strings.Builder
	b.WriteString(a.Name)
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		fmt.Fprintf(&b, " %s=%q", name, a.Labels[name])
	}
	return b.String()
}

// errNoAPI says that a source has not the API that was asked for.
var errNoAPI = errors.New("404")

// detect says what the source is: an Alertmanager has the version 2 of its API,
// which a Prometheus has not.
func (a *alerts) detect(ctx context.Context) (string, error) {
	_, err := a.alertmanager(ctx)
	if err == nil {
		return kindAlertmanager, nil
	}
	if !errors.Is(err, errNoAPI) {
		return "", err
	}
	if _, err = a.prometheus(ctx); err != nil {
		return "", fmt.Errorf("it is no Alertmanager, and no Prometheus either: %w", err)
	}
	return kindPrometheus, nil
}

// prometheus asks for the alerts that are pending or firing:
// https://prometheus.io/docs/prometheus/latest/querying/api/#alerts
func (a *alerts) prometheus(ctx context.Context) ([]history.Alert, error) {
	var answer struct {
		Status string
		Data   *struct {
			Alerts []struct {
				Labels   map[string]string
				State    string
				ActiveAt time.Time
			}
		}
	}
	if err := a.get(ctx, "/api/v1/alerts", &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" || answer.Data == nil {
		return nil, fmt.Errorf("/api/v1/alerts: status %q, and no alerts", answer.Status)
	}
	var out []history.Alert
	for _, one := range answer.Data.Alerts {
		// activeAt is when it became pending, not when it fired.
		found, err := alertOf(one.Labels, one.State)
		if err != nil {
			return nil, err
		}
		if found.State == "pending" {
			found.Since = one.ActiveAt.UTC()
		}
		out = append(out, found)
	}
	return out, nil
}

// alertOf takes the name out of the labels.
func alertOf(labels map[string]string, state string) (history.Alert, error) {
	name := labels["alertname"]
	if name == "" || state == "" {
		return history.Alert{}, fmt.Errorf("an alert without a name or a state: %v %q", labels, state)
	}
	rest := maps.Clone(labels)
	delete(rest, "alertname")
	return history.Alert{Name: name, Labels: rest, State: state}, nil
}

// rulesOf asks for the rules of the named alerts:
// https://prometheus.io/docs/prometheus/latest/querying/api/#rules
// A Prometheus that does not know rule_name[] yet answers with all.
func (a *alerts) rulesOf(ctx context.Context) ([]history.AlertRule, error) {
	var answer struct {
		Status string
		Data   *struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, Type string }
			}
		}
	}
	query := url.Values{"type": {"alert"}, "rule_name[]": a.cfg.Names}
	if err := a.get(ctx, "/api/v1/rules?"+query.Encode(), &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" || answer.Data == nil {
		return nil, fmt.Errorf("/api/v1/rules: status %q, and no rules", answer.Status)
	}
	out := []history.AlertRule{}
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if r.Type == "alerting" && slices.Contains(a.cfg.Names, r.Name) {
				out = append(out, history.AlertRule{Name: r.Name, Health: r.Health, Err: short(r.LastError)})
			}
		}
	}
	return out, nil
}

// alertmanager asks for the alerts that are not resolved:
// https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, /alerts
func (a *alerts) alertmanager(ctx context.Context) ([]history.Alert, error) {
	var answer []struct {
		Labels   map[string]string
		StartsAt time.Time
		Status   struct{ State string }
	}
	if err := a.get(ctx, "/api/v2/alerts", &answer); err != nil {
		return nil, err
	}
	var out []history.Alert
	for _, one := range answer {
		state := one.Status.State
		if state == "active" || state == "unprocessed" { // not yet sent on
			state = "firing"
		}
		found, err := alertOf(one.Labels, state)
		if err != nil {
			return nil, err
		}
		found.Since = one.StartsAt.UTC()
		out = append(out, found)
	}
	return out, nil
}

// get reads an answer in JSON.
func (a *alerts) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(a.cfg.URL, "/")+path, nil)
	if err != nil {
		return fmt.Errorf("ask for alerts: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gameday-sampler (alerts)")
	if a.cfg.TokenFile != "" {
		token, err := os.ReadFile(a.cfg.TokenFile)
		if err != nil {
			return fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return errors.New(explain(err)) // a token is in no error of the client
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAlerts))
	switch {
	case err != nil:
		return errors.New(explain(err))
	case len(body) == maxAlerts:
		return fmt.Errorf("%s: %w", path, errTooLong)
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s: %w", path, errNoAPI)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %d: %s", path, resp.StatusCode, short(string(body)))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: no answer of such an API: %w", path, err)
	}
	return nil
}
