package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/scheduler/client"
)

func valid() client.DeployBody {
	return client.DeployBody{
		Request: pancake.Request{ID: "dev_hello", Instances: 2},
		Deploy: pancake.Deploy{
			ID: "1_4f2ab31", Container: pancake.Container{
				Image: "hello:1", Ports: []pancake.PortMapping{{ContainerPort: 80}, {ContainerPort: 53, HostPort: 31053, Protocol: "tcp,udp"}},
				Volumes: []pancake.Volume{{HostPath: "/srv", ContainerPath: "/data"}},
			},
			Resources: pancake.Resources{CPUs: 100, MemoryMB: 64},
		},
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		change func(*client.DeployBody)
		want   string // part of the error; "" means valid
	}{
		"valid":        {func(*client.DeployBody) {}, ""},
		"worker":       {func(b *client.DeployBody) { b.Request.Type = pancake.TypeWorker }, ""},
		"host network": {func(b *client.DeployBody) { b.Deploy.Container.Network = pancake.NetworkHost }, ""},
		"same port, other protocol": {func(b *client.DeployBody) {
			b.Deploy.Container.Ports = []pancake.PortMapping{{ContainerPort: 53, HostPort: 53, Protocol: "tcp"}, {ContainerPort: 53, HostPort: 53, Protocol: "udp"}}
		}, ""},
		"no request id":       {func(b *client.DeployBody) { b.Request.ID = "" }, "Id cannot be null"},
		"slash in request id": {func(b *client.DeployBody) { b.Request.ID = "a/b" }, "Id cannot be null"},
		"long request id":     {func(b *client.DeployBody) { b.Request.ID = strings.Repeat("x", 101) }, "longer than 100"},
		"dash in deploy id":   {func(b *client.DeployBody) { b.Deploy.ID = "a-b" }, "Id cannot be null"},
		"long deploy id":      {func(b *client.DeployBody) { b.Deploy.ID = strings.Repeat("x", 151) }, "longer than 150"},
		"forced commit id":    {func(b *client.DeployBody) { b.Deploy.ID = strings.Repeat("f", 40) + "_4f2ab31_301234567" }, ""},
		"path as deploy id":   {func(b *client.DeployBody) { b.Deploy.ID = ".." }, "Id cannot be null"},
		"long service":        {func(b *client.DeployBody) { b.Request.Service = strings.Repeat("x", 256) }, "request.service"},
		"terminal in service": {func(b *client.DeployBody) { b.Request.Service = "\x1b[2J" }, "request.service"},
		"two lines of tag":    {func(b *client.DeployBody) { b.Deploy.Tag = "a\nb" }, "deploy.tag"},
		"user is not UTF-8":   {func(b *client.DeployBody) { b.Deploy.User = "J\xfcrgen" }, "deploy.user"},
		"name in UTF-8":       {func(b *client.DeployBody) { b.Deploy.User = "Jürgen" }, ""},
		"grows when stored":   {func(b *client.DeployBody) { b.Deploy.Container.Command = strings.Repeat("<", 100<<10) }, "too large"},
		"protocol twice":      {func(b *client.DeployBody) { b.Deploy.Container.Ports[0].Protocol = "tcp,tcp" }, "is not tcp, udp"},
		"other request":       {func(b *client.DeployBody) { b.Deploy.RequestID = "x" }, "comes with request"},
		"scheduled":           {func(b *client.DeployBody) { b.Request.Type = pancake.TypeScheduled }, "not supported"},
		"no instances":        {func(b *client.DeployBody) { b.Request.Instances = 0 }, "Instances must be greater than 0"},
		"too many instances":  {func(b *client.DeployBody) { b.Request.Instances = 1001 }, "more than the 1000"},
		"no image":            {func(b *client.DeployBody) { b.Deploy.Container.Image = "" }, "container.image"},
		"image with a blank":  {func(b *client.DeployBody) { b.Deploy.Container.Image = "a b" }, "container.image"},
		"terminal in image":   {func(b *client.DeployBody) { b.Deploy.Container.Image = "a\x1b[2J" }, "container.image"},
		"unknown network":     {func(b *client.DeployBody) { b.Deploy.Container.Network = "NONE" }, "container.network"},
		"env name":            {func(b *client.DeployBody) { b.Deploy.Container.Env = map[string]string{"A=B": "x"} }, "container.env"},
		"env value":           {func(b *client.DeployBody) { b.Deploy.Container.Env = map[string]string{"A": "x\x00"} }, "container.env"},
		"large env": {func(b *client.DeployBody) {
			b.Deploy.Container.Env = map[string]string{"A": strings.Repeat("x", 300<<10)}
		}, "container.env"},
		"label":              {func(b *client.DeployBody) { b.Deploy.Container.Labels = map[string]string{"": "x"} }, "container.labels"},
		"attribute":          {func(b *client.DeployBody) { b.Request.RequiredAttributes = map[string]string{"": "x"} }, "requiredAttributes"},
		"container port":     {func(b *client.DeployBody) { b.Deploy.Container.Ports[0].ContainerPort = 0 }, "out of range"},
		"host port":          {func(b *client.DeployBody) { b.Deploy.Container.Ports[0].HostPort = 65536 }, "out of range"},
		"protocol":           {func(b *client.DeployBody) { b.Deploy.Container.Ports[0].Protocol = "sctp" }, "is not tcp, udp"},
		"port named twice":   {func(b *client.DeployBody) { b.Deploy.Container.Ports[0].HostPort = 31053 }, "named twice"},
		"port index":         {func(b *client.DeployBody) { b.Deploy.Health.PortIndex = 2 }, "Must request 3 ports for healthcheckPortIndex 2, only requested 2"},
		"relative volume":    {func(b *client.DeployBody) { b.Deploy.Container.Volumes[0].HostPath = "srv" }, "not an absolute path"},
		"colon in volume":    {func(b *client.DeployBody) { b.Deploy.Container.Volumes[0].ContainerPath = "/a:b" }, "not an absolute path"},
		"volume mode":        {func(b *client.DeployBody) { b.Deploy.Container.Volumes[0].Mode = "rw" }, "not RW or RO"},
		"cpus":               {func(b *client.DeployBody) { b.Deploy.Resources.CPUs = -1 }, "resources.cpus"},
		"memory":             {func(b *client.DeployBody) { b.Deploy.Resources.MemoryMB = 0 }, "Must be > 0"},
		"ports as resources": {func(b *client.DeployBody) { b.Deploy.Resources.Ports = pancake.PortSet{{First: 1, Last: 2}} }, "resources.ports"},
		"health check":       {func(b *client.DeployBody) { b.Deploy.Health.URI = "/a b" }, "healthcheckUri"},
		"timeout":            {func(b *client.DeployBody) { b.Deploy.Health.TimeoutSeconds = -1 }, "deployHealthTimeoutSeconds"},
		"step":               {func(b *client.DeployBody) { b.Deploy.Strategy.InstancesPerStep = -1 }, "deployInstanceCountPerStep"},
		"wait":               {func(b *client.DeployBody) { b.Deploy.Strategy.StepWaitMillis = 1e9 }, "deployStepWaitTimeMs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := valid()
			tt.change(&b)
			err := validate(&b)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestValidateSetsDefaultsAndResetsWhatIsNotTheCallers(t *testing.T) {
	b := valid()
	b.Request.ActiveDeploy, b.Request.State = "x", pancake.RequestPaused
	b.Deploy.State, b.Deploy.Message = pancake.DeploySucceeded, "x"
	if err := validate(&b); err != nil {
		t.Fatal(err)
	}
	r, d := b.Request, b.Deploy
	if r.ActiveDeploy != "" || r.State != pancake.RequestActive || r.Type != pancake.TypeService || d.State != "" || d.Message != "" || d.RequestID != r.ID {
		t.Errorf("got %+v, %+v", r, d)
	}
	if d.Container.Network != pancake.NetworkBridge || d.Container.Ports[0].Protocol != "tcp" || d.Container.Volumes[0].Mode != "RW" {
		t.Errorf("got %+v", d.Container)
	}
}

func FuzzDeployBody(f *testing.F) {
	seed, err := json.Marshal(valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"request":{"id":"a","instances":1},"deploy":{"id":"b","container":{"image":"i"},"resources":{"cpus":1e5,"memoryMb":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var body client.DeployBody
		if json.Unmarshal(b, &body) != nil || validate(&body) != nil {
			return
		}
		// What is accepted stays acceptable: it will be stored and read again.
		stored, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var again client.DeployBody
		if err := json.Unmarshal(stored, &again); err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
		if err := validate(&again); err != nil {
			t.Fatalf("%s: %v", stored, err)
		}
	})
}

func TestSplitter(t *testing.T) {
	var got []string
	s := splitter{emit: func(l client.LogLine) error {
		got = append(got, l.Source+":"+l.Text)
		return nil
	}}
	long := strings.Repeat("x", maxLine)
	for _, w := range [][2]string{{"stdout", "a\nb"}, {"stderr", "e"}, {"stdout", "c\r\n\n"}, {"?", "d"}, {"stdout", long + "\n"}} {
		if err := s.write(w[0], []byte(w[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	want := []string{"stdout:a", "stdout:bc", "stdout:", "stdout:d" + long[1:], "stdout:x", "stderr:e"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %.200q", got)
	}
}
