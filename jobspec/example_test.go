package jobspec_test

import (
	"fmt"

	"github.com/pancake-stack/pancake/jobspec"
)

func Example() {
	const text = `nmesos_version: '3.0.7'
common:
  resources: {cpus: 0.1, memoryMB: 64}
  container:
    image: team/hello
    ports: [8080]
environments:
  dev:
    singularity: {healthcheckUri: /healthz}
    resources: {memoryMb: 64}
`
	file, problems := jobspec.Parse("hello.yml", []byte(text))
	fmt.Println(problems)
	spec, _ := file.Environment("dev")
	request, deploy, _ := spec.Release("1.0", "ann")
	fmt.Println(request.ID, deploy.ID, deploy.Container.Image)
	// Output:
	// hello.yml:3:26: warning: common.resources.memoryMB: unknown key "memoryMB"; did you mean memoryMb?
	// dev_hello 1_0_7546cf0 team/hello:1.0
}
