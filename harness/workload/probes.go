package workload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
	"gameday/clusters/upgrade"
)

// Probing is what the pods are for that stand on every node, control planes too:
// each says what its node's clock says and, with Requests, asks the pods on all
// other nodes, the workload's Services and the cluster's DNS all the time.
//
// They are no part of the workload: they have a namespace of their own, and not
// the run's label, by which faults find the workload's pods.
type Probing struct {
	Requests bool
}

const (
	probeName = "probe"
	// maxProbed bounds how many Services each node asks.
	maxProbed = 2
	// clusterDomain is kubeadm's default, which kind leaves as it is:
	// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go.
	clusterDomain = "cluster.local"
	partProbe     = "probe"
)

// ProbeNamespace is where the probing pods of a run are, and nothing else.
func ProbeNamespace(run string) string { return namespace(run) + "-probe" }

// probedServices are the Services that are asked, and how many are not.
func (s *Set) probedServices() (names []string, left int) {
	if w := s.spec.Deployments; w != nil {
		for i := range min(w.Count, maxProbed) {
			names = append(names, numbered("web", i))
		}
		left = max(0, w.Count-maxProbed)
	}
	return names, left
}

// Unprobed is how many Services are there that the probing pods do not ask.
func (s *Set) Unprobed() int {
	if s.probing == nil || !s.probing.Requests {
		return 0
	}
	_, left := s.probedServices()
	return left
}

// createProbes makes the probing pods. The Services must be there.
func (s *Set) createProbes(ctx context.Context, made func(string, error)) {
	b, opts := s.build, metav1.CreateOptions{}
	ns := ProbeNamespace(b.run)
	_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: b.labels()},
	}, opts)
	made("the namespace of the probes", err)
	args, err := s.probeArgs(ctx)
	if err != nil {
		made("the probes", err)
		return
	}
	labels := map[string]string{labelPart: partProbe}
	_, err = s.client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: probeName, Namespace: ns},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: labels, PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{{Name: "mesh", Port: meshPort, Protocol: corev1.ProtocolUDP}},
		},
	}, opts)
	made("the service of the probes", err)
	c := b.container(args...)
	c.Env = append(c.Env, corev1.EnvVar{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}})
	// A fifth of the processor time is saved by a runtime that wakes no second thread.
	c.Env = append(c.Env, corev1.EnvVar{Name: "GOMAXPROCS", Value: "1"})
	// On a busy node it must come to run in time, or what it sees is its own
	// lateness.
	c.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("50m")
	_, err = s.client.AppsV1().DaemonSets(ns).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: probeName, Namespace: ns},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers:                    []corev1.Container{c},
					AutomountServiceAccountToken:  ptr(false),
					EnableServiceLinks:            ptr(false),
					TerminationGracePeriodSeconds: ptr[int64](serveGrace),
					// On a canary, too, it is to be seen that pods run there.
					Tolerations: []corev1.Toleration{
						{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
						{Key: upgrade.LabelCanary, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
					},
				},
			},
		},
	}, opts)
	made("the probes", err)
}

// probeArgs are the arguments of the agent.
func (s *Set) probeArgs(ctx context.Context) ([]string, error) {
	args := []string{"probe"}
	if !s.probing.Requests {
		return args, nil
	}
	args = append(args, "--nodes", strings.Join(s.nodes, ","),
		"--others", fmt.Sprintf("%s.%s.svc.%s.", probeName, ProbeNamespace(s.build.run), clusterDomain))
	address := func(ns, name string) (string, error) {
		svc, err := s.client.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", fmt.Errorf("the address of service %s: %w", name, err)
		}
		if svc.Spec.ClusterIP == "" {
			return "", errors.New("service " + name + " has no address yet")
		}
		return svc.Spec.ClusterIP, nil
	}
	dns := func(ns, name, ip string) {
		args = append(args, "--dns", fmt.Sprintf("%s.%s.svc.%s.=%s", name, ns, clusterDomain, ip))
	}
	names, _ := s.probedServices()
	for i, name := range names {
		ip, err := address(s.Namespace, name)
		if err != nil {
			return nil, err
		}
		args = append(args, "--service", name+"="+net.JoinHostPort(ip, strconv.Itoa(servicePort)))
		if i == 0 {
			dns(s.Namespace, name, ip)
		}
	}
	if len(names) == 0 { // every cluster has this one
		ip, err := address(metav1.NamespaceDefault, "kubernetes")
		if err != nil {
			return nil, err
		}
		dns(metav1.NamespaceDefault, "kubernetes", ip)
	}
	return args, nil
}

// unreadyProbes says what is missing of the probing pods.
func (s *Set) unreadyProbes(ctx context.Context) string {
	if s.probing == nil {
		return ""
	}
	d, err := s.client.AppsV1().DaemonSets(ProbeNamespace(s.build.run)).Get(ctx, probeName, metav1.GetOptions{})
	if err != nil {
		return fmt.Sprintf("get the probes: %v", err)
	}
	if st := d.Status; st.ObservedGeneration < d.Generation || int(st.NumberReady) < len(s.nodes) {
		return fmt.Sprintf("probes are ready on %d of %d nodes", st.NumberReady, len(s.nodes))
	}
	return ""
}

// members are the names of all nodes of the cluster.
func members(c clusters.Cluster) []string {
	var out []string
	for _, n := range everyNode(c) {
		out = append(out, n.Name())
	}
	return out
}

// everyNode is without the load balancer, which is no node of the cluster.
func everyNode(c clusters.Cluster) []clusters.Node {
	return append(clusters.ByRole(c.Nodes(), clusters.ControlPlane), clusters.ByRole(c.Nodes(), clusters.Worker)...)
}
