package faults

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

func TestBlockedBudgets(t *testing.T) {
	for name, tc := range map[string]struct {
		a             asked
		pods          int
		broken, whole bool
	}{
		"no budget at all":          {asked{allowed: 2}, 2, false, true},
		"allowed by theirs":         {asked{covered: 2, allowed: 2}, 2, false, true},
		"all refused":               {asked{covered: 2, coveredRefused: 2}, 2, true, false},
		"one may go":                {asked{covered: 2, coveredRefused: 1, allowed: 1}, 2, false, true},
		"refused, others uncovered": {asked{covered: 1, coveredRefused: 1, allowed: 1}, 2, true, true},
		"nobody there any more":     {asked{}, 0, false, true},
	} {
		if s := tc.a.judge(tc.pods); s.broken != tc.broken || s.whole != tc.whole {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}

func TestBudgetsOverPods(t *testing.T) {
	budget := func(ns, app string) policyv1.PodDisruptionBudget {
		b := policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: app}}
		b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
		return b
	}
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Labels: map[string]string{"app": "x", "more": "y"}}}
	none := budget("a", "nothing")
	none.Spec.Selector = nil // selects nothing, in policy/v1
	got, err := over([]policyv1.PodDisruptionBudget{budget("a", "x"), budget("b", "x"), budget("a", "z"), none}, []corev1.Pod{pod})
	if err != nil || len(got) != 1 || got[0].Namespace != "a" || got[0].Name != "x" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNeverLetsNobodyGo(t *testing.T) {
	one := intstr.FromInt32(1)
	s := policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one}
	never(&s)
	if s.MaxUnavailable != nil || s.MinAvailable.IntValue() < 1e9 {
		t.Errorf("got %+v", s)
	}
	if v := labelValue(strings.Repeat("a-", 40)); len(v) > 63 || strings.HasSuffix(v, "-") {
		t.Errorf("label %q", v)
	}
}

// budgetAPI is an API server that knows pods and budgets.
type budgetAPI struct {
	t       *testing.T
	mu      sync.Mutex
	pods    []corev1.Pod
	budgets map[string]policyv1.PodDisruptionBudget
	version int
}

func (a *budgetAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	say := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			a.t.Error(err)
		}
	}
	fail := func(code int, reason metav1.StatusReason) {
		say(code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason})
	}
	if strings.HasSuffix(r.URL.Path, "/pods") {
		say(200, corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: a.pods})
		return
	}
	_, name, one := strings.Cut(r.URL.Path, "/poddisruptionbudgets/")
	var b policyv1.PodDisruptionBudget
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			a.t.Error(err)
		}
		name = b.Name
	}
	stands, found := a.budgets[name]
	switch {
	case r.Method == http.MethodGet && !one:
		list := policyv1.PodDisruptionBudgetList{TypeMeta: metav1.TypeMeta{Kind: "PodDisruptionBudgetList", APIVersion: "policy/v1"}}
		for _, b := range a.budgets {
			list.Items = append(list.Items, b)
		}
		say(200, list)
	case r.Method == http.MethodPost && found:
		fail(409, metav1.StatusReasonAlreadyExists)
	case r.Method != http.MethodPost && !found:
		fail(404, metav1.StatusReasonNotFound)
	case r.Method == http.MethodPut && b.ResourceVersion != stands.ResourceVersion:
		fail(409, metav1.StatusReasonConflict)
	case r.Method == http.MethodDelete:
		delete(a.budgets, name)
		say(200, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
	case r.Method == http.MethodGet:
		say(200, stands)
	default:
		a.version++
		b.ResourceVersion = strconv.Itoa(a.version)
		a.budgets[name] = b
		say(200, b)
	}
}

// servedCluster is a cluster with that API server.
type servedCluster struct {
	fakeCluster
	url string
}

func (c servedCluster) REST() *rest.Config {
	return &rest.Config{Host: c.url, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
}

// A budget of the run is tightened and comes back as it was, whoever heals; one is
// made where there is none; one of somebody else's is left alone.
func TestBudgetsComeBack(t *testing.T) {
	one, two := intstr.FromInt32(1), intstr.FromInt32(2)
	for name, tc := range map[string]struct {
		labels  map[string]string
		without bool
		bad     bool
	}{
		"of the run":       {labels: map[string]string{clusters.LabelRun: "r", "more": "x"}},
		"none":             {without: true},
		"of somebody else": {labels: map[string]string{"app": "x"}, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", Labels: map[string]string{"app": "x"}}}
			pod.Spec.NodeName = "cp0"
			a := &budgetAPI{t: t, pods: []corev1.Pod{pod}, budgets: map[string]policyv1.PodDisruptionBudget{}}
			before := policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "b", Labels: tc.labels}}
			before.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
			before.Spec.MaxUnavailable = &one
			if !tc.without {
				a.budgets["b"] = before
			}
			s := httptest.NewServer(a)
			defer s.Close()
			w := &world{t: t, left: -1}
			n := &fakeNode{w: w}
			w.nodes = []*fakeNode{n}
			env := Env{Cluster: servedCluster{fakeCluster{w}, s.URL}, Targets: []clusters.Node{n}, Tag: "run-1", Notes: &memory{w: w}}
			f := &PDBBlock{Selector: "app=x"}
			if err := f.Heal(t.Context(), env); err != nil {
				t.Errorf("heal of nothing: %v", err)
			}
			for range 2 {
				if err := f.Inject(t.Context(), env); (err != nil) != tc.bad {
					t.Fatal(err)
				}
			}
			if !tc.bad {
				for _, b := range a.budgets {
					if b.Spec.MaxUnavailable != nil || b.Spec.MinAvailable.IntValue() < 1e9 || b.Labels[labelBlocked] != "run-1" {
						t.Errorf("not blocked: %+v", b)
					}
				}
				if len(a.budgets) != 1 {
					t.Errorf("%d budgets, which breaks evictions in another way", len(a.budgets))
				}
				other := env
				other.Tag, other.Notes = "run-2", &memory{w: w}
				if err := f.Inject(t.Context(), other); err == nil {
					t.Error("blocked twice")
				}
				if err := f.Heal(t.Context(), other); err != nil {
					t.Error(err)
				}
				if b := a.budgets["b"]; !tc.without {
					// Somebody else's change of it stays.
					b.Labels["more"] = two.String()
				}
			}
			for range 2 {
				if err := (&PDBBlock{Selector: "app=x"}).Heal(t.Context(), env); err != nil {
					t.Fatal(err)
				}
			}
			if tc.without {
				if len(a.budgets) > 0 {
					t.Errorf("left: %v", a.budgets)
				}
				return
			}
			b := a.budgets["b"]
			if b.Spec.MinAvailable != nil || b.Spec.MaxUnavailable == nil || b.Spec.MaxUnavailable.IntValue() != 1 || b.Labels[labelBlocked] != "" {
				t.Errorf("came back as %+v", b)
			}
		})
	}
}
