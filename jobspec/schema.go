package jobspec

import (
	"slices"
	"strings"
)

// row is one key of an environment, or of common.
type row struct {
	key string // section.name, or the name of a section that is not read
	// into says where the value goes. The type of the pointer says what the
	// value must be. It is nil for what is not read.
	into     func(*Spec) any
	required bool
	example  string // a correct line, for messages
	rule     rule   // what else a value of the right type must fulfil
	// unused says why the value has no effect, to warn; harmless to ignore.
	unused string
	// refused says why a value cannot be released; ignoring it would change
	// what runs. It is asked for values that say something at all, and returns
	// "" for those that are as good as not being there.
	refused func(*node) string
}

// schema has every key that nmesos 3.0.7 and nmesos-k8s know, and Singularity's groups. To make Pancake
// act on a key, drop unused or refused from its row and use the field.
var schema = []row{
	{key: "resources.cpus", into: func(s *Spec) any { return &s.Resources.CPUs }, required: true, example: "cpus: 0.1", rule: cpus},
	{key: "resources.memoryMb", into: func(s *Spec) any { return &s.Resources.MemoryMB }, required: true, example: "memoryMb: 64", rule: atLeast(1)},
	{key: "resources.instances", into: func(s *Spec) any { return &s.Resources.Instances }, example: "instances: 2", rule: between(1, maxInstances)},

	{key: "container.image", into: func(s *Spec) any { return &s.Container.Image }, required: true, example: "image: team/hello", rule: image},
	{key: "container.command", into: func(s *Spec) any { return &s.Container.Command }, example: "command: ./server --verbose", rule: noNUL},
	{key: "container.forcePullImage", into: func(s *Spec) any { return &s.Container.ForcePull }, example: "forcePullImage: true"},
	{key: "container.ports", into: func(s *Spec) any { return &s.Container.Ports }, example: "ports: [8080]", rule: distinctPorts},
	{key: "container.labels", into: func(s *Spec) any { return &s.Container.Labels }, example: `ServiceName: "hello"`, rule: labels},
	{key: "container.env_vars", into: func(s *Spec) any { return &s.Container.EnvVars }, example: `GREETING: "hello"`, rule: envVars},
	{key: "container.volumes", into: func(s *Spec) any { return &s.Container.Volumes }, example: "volumes: [/var/data:/data:RO]", rule: distinctVolumes},
	{key: "container.network", into: func(s *Spec) any { return (*string)(&s.Container.Network) }, example: "network: BRIDGE", rule: oneOf("BRIDGE", "HOST")},
	{key: "container.deploy_freeze", into: func(s *Spec) any { return &s.Container.DeployFreeze }, example: "deploy_freeze: true"},
	{
		key: "container.dockerParameters", into: func(s *Spec) any { return &s.Container.DockerParameters }, example: `cap-add: "NET_ADMIN"`,
		refused: always("passing options to Docker is not supported yet, and the container would run without them; remove them"),
	},
	{key: "container.kubernetes_unfreeze", unused: "is not used by Pancake: nmesos-k8s alone reads it"},

	{
		key: "executor.customExecutorCmd", into: func(s *Spec) any { return &s.Executor.CustomCommand }, example: "customExecutorCmd: /opt/executor",
		unused: "is not used by Pancake, which has an executor of its own",
	},
	{
		key: "executor.env_vars", into: func(s *Spec) any { return &s.Executor.EnvVars }, example: `EXECUTOR_SIDECAR_BACKOFF: "2m"`, rule: names("a variable"),
		unused: "is not used by Pancake yet: settings of the executor are settings of the agent",
	},

	{key: "singularity.url", into: func(s *Spec) any { return &s.Singularity.URL }, example: "url: http://singularity:7099/singularity"},
	{
		key: "singularity.schedule", into: func(s *Spec) any { return &s.Singularity.Schedule }, example: `schedule: "0 4 * * *"`,
		refused: always("jobs on a schedule are not supported yet; remove the key to run a service"),
	},
	{
		key: "singularity.requestType", into: func(s *Spec) any { return (*string)(&s.Singularity.RequestType) }, example: "requestType: SERVICE",
		rule:    oneOf("SERVICE", "WORKER", "SCHEDULED", "ON_DEMAND", "RUN_ONCE"),
		refused: unless("requests of this type are not supported yet; write SERVICE or WORKER", "SERVICE", "WORKER"),
	},

	{key: "singularity.deployInstanceCountPerStep", into: func(s *Spec) any { return &s.Singularity.InstancesPerStep }, example: "deployInstanceCountPerStep: 1", rule: atLeast(1)},
	{key: "singularity.deployStepWaitTimeMs", into: func(s *Spec) any { return &s.Singularity.StepWaitMillis }, example: "deployStepWaitTimeMs: 1000", rule: atLeast(0)},
	{key: "singularity.deployHealthTimeoutSeconds", into: func(s *Spec) any { return &s.Singularity.HealthTimeoutSeconds }, example: "deployHealthTimeoutSeconds: 120", rule: atLeast(1)},
	{
		key: "singularity.autoAdvanceDeploySteps", into: func(s *Spec) any { return &s.Singularity.AutoAdvance }, example: "autoAdvanceDeploySteps: true",
		refused: unless("advancing a deploy by hand is not supported yet, and every step would follow by itself; remove the key or write true", "true", "yes", "on"),
	},

	{key: "singularity.healthcheckUri", into: func(s *Spec) any { return &s.Singularity.HealthcheckURI }, example: "healthcheckUri: /healthz", rule: uri},
	{key: "singularity.healthcheckPortIndex", into: func(s *Spec) any { return &s.Singularity.HealthcheckPortIndex }, example: "healthcheckPortIndex: 0", rule: atLeast(0)},
	{
		key: "singularity.healthcheckMaxRetries", into: func(s *Spec) any { return &s.Singularity.HealthcheckMaxRetries }, example: "healthcheckMaxRetries: 3", rule: atLeast(0),
		unused: "is not used by Pancake yet: Sidecar checks until deployHealthTimeoutSeconds have passed",
	},
	{
		key: "singularity.healthcheckTimeoutSeconds", into: func(s *Spec) any { return &s.Singularity.HealthcheckTimeoutSeconds }, example: "healthcheckTimeoutSeconds: 5", rule: atLeast(0),
		unused: "is not used by Pancake yet: how long one check may take is a setting of Sidecar",
	},
	{
		key: "singularity.healthcheckMaxTotalTimeoutSeconds", into: func(s *Spec) any { return &s.Singularity.HealthcheckMaxTotalTimeoutSeconds }, example: "healthcheckMaxTotalTimeoutSeconds: 60", rule: atLeast(0),
		unused: "is not used by Pancake yet: deployHealthTimeoutSeconds bounds the wait",
	},

	{
		key: "singularity.requiredRole", into: func(s *Spec) any { return &s.Singularity.RequiredRole }, example: "requiredRole: OPS",
		// "*" is Mesos' name for resources that are reserved for nobody.
		refused: unless("roles are not supported yet, and the tasks would run on any agent; use requiredAttributes to choose agents", "*"),
	},
	{key: "singularity.requiredAttributes", into: func(s *Spec) any { return &s.Singularity.RequiredAttributes }, example: `rack: "r1"`, rule: names("an attribute")},
	{
		key: "singularity.allowedSlaveAttributes", into: func(s *Spec) any { return &s.Singularity.AllowedAttributes }, example: `rack: "r1"`, rule: names("an attribute"),
		unused: "is not used by Pancake: it keeps no agent for requests that allow its attributes",
	},
	{
		key: "singularity.slavePlacement", into: func(s *Spec) any { return &s.Singularity.Placement }, example: "slavePlacement: OPTIMISTIC",
		rule: oneOf("OPTIMISTIC", "GREEDY", "SEPARATE", "SEPARATE_BY_DEPLOY", "SEPARATE_BY_REQUEST", "SPREAD_ALL_SLAVES", "SPREAD_ALL_AGENTS"),
		refused: unless("this placement is not supported yet, and instances would share agents; write OPTIMISTIC or GREEDY, or remove the key",
			"OPTIMISTIC", "GREEDY"),
	},

	{key: "singularity.group", into: func(s *Spec) any { return &s.Singularity.Group }, example: "group: shop", rule: group},
	{key: "singularity.readWriteGroups", into: func(s *Spec) any { return &s.Singularity.ReadWriteGroups }, example: "readWriteGroups: [search]"},
	{key: "singularity.readOnlyGroups", into: func(s *Spec) any { return &s.Singularity.ReadOnlyGroups }, example: "readOnlyGroups: [support]"},

	{key: "after_deploy", refused: always("releasing other services afterwards is not supported yet; release them yourself and remove the key")},
	{key: "k8s", unused: "is not used by Pancake: nmesos-k8s alone reads it"},
}

// name is the last part of the key.
func (r row) name() string { return r.key[strings.LastIndexByte(r.key, '.')+1:] }

// section is the first part of the key, "" for a section that is not read.
func (r row) section() string {
	section, _, found := strings.Cut(r.key, ".")
	if !found {
		return ""
	}
	return section
}

// known returns the names that may stand in a section, or with "" those of the
// sections.
func known(section string) []string {
	var names []string
	for _, r := range schema {
		name := r.name()
		if section == "" && r.section() != "" {
			name = r.section()
		} else if r.section() != section {
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// always refuses every value.
func always(why string) func(*node) string {
	return func(*node) string { return why }
}

// unless refuses every value but these.
func unless(why string, accepted ...string) func(*node) string {
	return func(n *node) string {
		if slices.ContainsFunc(accepted, func(a string) bool { return strings.EqualFold(a, n.text) }) {
			return ""
		}
		return why
	}
}
