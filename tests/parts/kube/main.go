// Command kube is the stock etcd, kube-apiserver and kubectl of one Kubernetes release, chosen by the
// first argument. It adds nothing of its own: tests meet the real programs, installed from Go modules.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kube etcd|kube-apiserver|kubectl ARGS…")
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	var cmd *cobra.Command
	switch os.Args[0] {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		cmd = apiserver.NewAPIServerCommand()
	case "kubectl":
		cmd = kubectl.NewDefaultKubectlCommand()
	default:
		fmt.Fprintf(os.Stderr, "kube: no program named %q in here\n", os.Args[0])
		os.Exit(2)
	}
	util.CheckErr(cli.RunNoErrOutput(cmd))
}
