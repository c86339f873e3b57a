package faults

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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
