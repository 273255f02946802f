// The process that holds a pod's namespaces.
module postern.dev/e2e/kubernetes/pause

go 1.25.0
