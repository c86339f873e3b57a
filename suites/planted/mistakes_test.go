package planted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/harness/report"
	"gameday/harness/run"
	"gameday/harness/slo"
)

// bound of a spec: compiling, a cluster, and three minutes of looking.
const bound = SpecTimeout(15 * time.Minute)

const version = "v1.37.0" // of the scenario

// mistake is what is written into a file of a module in place of something else.
type mistake struct {
	module, version, file string
	old, mistaken         string
	imports               string // a package more, if it needs one
}

// skipped: of every second minute's slots the controller remembers that it has served
// them, and makes no Job.
var skipped = mistake{
	module: "k8s.io/kubernetes", version: version, file: "pkg/controller/cronjob/cronjob_controllerv2.go",
	old: "\tjobAlreadyExists := false\n",
	mistaken: "\tif scheduledTime.Minute()%2 == 0 {\n" +
		"\t\tcronJob.Status.LastScheduleTime = &metav1.Time{Time: *scheduledTime}\n" +
		"\t\treturn nextScheduleTimeDuration(cronJob, now, sched), true, nil\n" +
		"\t}\n" +
		"\tjobAlreadyExists := false\n",
}

// twice: a Job is made again, under another name, for every second minute's slots.
var twice = mistake{
	module: "k8s.io/kubernetes", version: version, file: "pkg/controller/cronjob/cronjob_controllerv2.go",
	old: "\tjobResp, err := jm.jobControl.CreateJob(cronJob.Namespace, jobReq)\n",
	mistaken: "\tif scheduledTime.Minute()%2 == 0 {\n" +
		"\t\tagain := jobReq.DeepCopy()\n" +
		"\t\tagain.Name += \"-2\"\n" +
		"\t\tif _, err := jm.jobControl.CreateJob(cronJob.Namespace, again); err != nil {\n" +
		"\t\t\treturn nil, updateStatus, err\n" +
		"\t\t}\n" +
		"\t}\n" +
		"\tjobResp, err := jm.jobControl.CreateJob(cronJob.Namespace, jobReq)\n",
}

// lost: one in twenty ConfigMaps is acknowledged and never written.
var lost = mistake{
	module: "k8s.io/apiserver", version: "v0.37.0", file: "pkg/storage/etcd3/store.go",
	imports: "sync/atomic",
	old:     "\tstartTime := time.Now()\n\ttxnResp, err := s.client.Kubernetes.OptimisticPut(ctx, preparedKey, newData, 0,",
	mistaken: "\tif strings.Contains(preparedKey, \"/configmaps/gameday\") && created.Add(1)%20 == 0 {\n" +
		"\t\tnow, err := s.client.KV.Get(ctx, preparedKey)\n" +
		"\t\tif err != nil {\n" +
		"\t\t\treturn err\n" +
		"\t\t}\n" +
		"\t\treturn s.decoder.Decode(data, out, now.Header.Revision)\n" +
		"\t}\n" +
		"\tstartTime := time.Now()\n\ttxnResp, err := s.client.Kubernetes.OptimisticPut(ctx, preparedKey, newData, 0,",
}

// plant writes a mistake into a copy of its module, and returns the folder.
func plant(ctx context.Context, m mistake, dir string) error {
	// Outside of this module, whose requirements say nothing of it.
	c := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.module+"@"+m.version)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	b, err := c.Output()
	if err != nil {
		return fmt.Errorf("go mod download: %w: %s", err, b)
	}
	var at struct{ Dir string }
	if err := json.Unmarshal(b, &at); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(at.Dir)); err != nil {
		return err
	}
	path := filepath.Join(dir, m.file)
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(before)
	if n := strings.Count(text, m.old); n != 1 {
		return fmt.Errorf("%s has %d places for it", m.file, n)
	}
	text = strings.Replace(text, m.old, m.mistaken, 1)
	if m.imports != "" {
		if !strings.Contains(text, "\nimport (\n") {
			return errors.New("no list of imports")
		}
		text = strings.Replace(text, "\nimport (\n", "\nimport (\n\t\""+m.imports+"\"\n", 1) + "\nvar created atomic.Int64\n"
	}
	// Files of the module cache may not be written to, and keep that.
	return errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o600))
}

// failed are the promises that were broken, with the reasons.
func failed(doc slo.Document) map[string]string {
	out := map[string]string{}
	for _, r := range doc.SLOs {
		AddReportEntry(r.Name, string(r.Verdict)+": "+r.Reason)
		if r.Verdict == slo.Fail {
			out[r.Name] = r.Reason
		}
	}
	return out
}

var _ = Describe("A planted mistake", Label("planted"), Serial, func() {
	judged := func(ctx context.Context, replace map[string]string) slo.Document {
		GinkgoHelper()
		cfg, err := run.Configure(ctx, run.Job{
			Scenario: "testdata/planted.yaml", Provider: "local", Seed: 1, Runs: GinkgoT().TempDir(), Replace: replace,
			Gameday: "suites/planted", Command: "gameday", Terminal: report.NewTerminal(GinkgoWriter, false),
		})
		Expect(err).NotTo(HaveOccurred())
		res, err := run.Run(ctx, cfg)
		Expect(err).NotTo(HaveOccurred())
		return res.Document
	}

	DescribeTable("breaks its promises, and no other", func(ctx SpecContext, m mistake, broken map[string]string) {
		dir := GinkgoT().TempDir()
		Expect(plant(ctx, m, dir)).To(Succeed())
		doc := judged(ctx, map[string]string{m.module: dir})
		Expect(doc.ExitCode).To(Equal(slo.ExitFail), "%s", doc.Reason)
		got := failed(doc)
		for name, reason := range broken {
			Expect(got).To(HaveKeyWithValue(name, ContainSubstring(reason)))
		}
		Expect(got).To(HaveLen(len(broken)))
	},
		Entry("a controller manager that skips slots", bound, skipped, map[string]string{"cron.missed": "slots were missed", "cron.start-latency": "never started"}),
		Entry("a controller manager that starts slots twice", bound, twice, map[string]string{"cron.duplicate": "more than once"}),
		Entry("an API server that loses writes", bound, lost, map[string]string{"writes.kept": "lost", "api.watch-missed": "left out", "linearizable": "one revision with two values"}),
	)

	It("is in none of the programs that are not patched", func(ctx SpecContext) {
		doc := judged(ctx, nil)
		Expect(failed(doc)).To(BeEmpty())
		var held []string
		for _, r := range doc.SLOs {
			if r.Verdict == slo.Pass {
				held = append(held, r.Name)
			}
		}
		// When containers start is not measured where they are only said to.
		Expect(held).To(ConsistOf("cron.missed", "cron.duplicate", "cron.unscheduled", "api.read", "api.quorum-read", "api.write", "api.watch",
			"api.watch-missed", "writes.kept", "linearizable"))
	}, bound)
})
