//! Which resources there are, and what a URL means.

/// A kind of objects, as discovery describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// The versions that are served. Objects are the same in all of them.
    pub versions: Vec<String>,
    /// The name in URLs.
    pub plural: String,
    /// The name in objects.
    pub kind: String,
    /// Objects live in namespaces.
    pub namespaced: bool,
    /// Status has a URL of its own, and only what is written there changes it.
    pub status: bool,
}

impl Resource {
    /// `plural.group`, as RBAC and error messages have it; only the plural for the core.
    pub fn name(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `apiVersion` in one of its versions.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }
}

/// Group, versions, plural, kind, namespaced, status.
type Row = (&'static str, &'static [&'static str], &'static str, &'static str, bool, bool);

const KNOWN: &[Row] = &[
    ("", &["v1"], "namespaces", "Namespace", false, true),
    ("", &["v1"], "nodes", "Node", false, true),
    ("", &["v1"], "configmaps", "ConfigMap", true, false),
    ("", &["v1"], "secrets", "Secret", true, false),
    ("", &["v1"], "services", "Service", true, true),
    ("", &["v1"], "endpoints", "Endpoints", true, false),
    ("", &["v1"], "pods", "Pod", true, true),
    ("", &["v1"], "events", "Event", true, false),
    ("", &["v1"], "serviceaccounts", "ServiceAccount", true, false),
    ("apps", &["v1"], "daemonsets", "DaemonSet", true, true),
    ("apps", &["v1"], "deployments", "Deployment", true, true),
    ("autoscaling", &["v2"], "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, true),
    ("events.k8s.io", &["v1"], "events", "Event", true, false),
    ("networking.k8s.io", &["v1"], "ingresses", "Ingress", true, true),
    ("networking.k8s.io", &["v1"], "ingressclasses", "IngressClass", false, false),
    ("networking.k8s.io", &["v1"], "networkpolicies", "NetworkPolicy", true, false),
    ("policy", &["v1"], "poddisruptionbudgets", "PodDisruptionBudget", true, true),
    ("rbac.authorization.k8s.io", &["v1"], "clusterroles", "ClusterRole", false, false),
    ("rbac.authorization.k8s.io", &["v1"], "clusterrolebindings", "ClusterRoleBinding", false, false),
    ("rbac.authorization.k8s.io", &["v1"], "roles", "Role", true, false),
    ("rbac.authorization.k8s.io", &["v1"], "rolebindings", "RoleBinding", true, false),
    ("discovery.k8s.io", &["v1"], "endpointslices", "EndpointSlice", true, false),
    ("coordination.k8s.io", &["v1"], "leases", "Lease", true, false),
    (
        "admissionregistration.k8s.io",
        &["v1"],
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
        false,
    ),
    ("apiextensions.k8s.io", &["v1"], "customresourcedefinitions", "CustomResourceDefinition", false, true),
    ("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], "gateways", "Gateway", true, true),
    ("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], "virtualservices", "VirtualService", true, true),
    ("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], "serviceentries", "ServiceEntry", true, true),
    (
        "networking.istio.io",
        &["v1", "v1beta1", "v1alpha3"],
        "destinationrules",
        "DestinationRule",
        true,
        true,
    ),
    ("networking.istio.io", &["v1alpha3"], "envoyfilters", "EnvoyFilter", true, true),
    ("extensions.istio.io", &["v1alpha1"], "wasmplugins", "WasmPlugin", true, true),
];

/// Those of a cluster with Istio. What a CustomResourceDefinition adds comes on top.
pub fn known() -> Vec<Resource> {
    KNOWN
        .iter()
        .map(|(group, versions, plural, kind, namespaced, status)| Resource {
            group: (*group).to_owned(),
            versions: versions.iter().map(|version| (*version).to_owned()).collect(),
            plural: (*plural).to_owned(),
            kind: (*kind).to_owned(),
            namespaced: *namespaced,
            status: *status,
        })
        .collect()
}

/// What a path of a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// `/api`, `/apis`, `/apis/GROUP`, `/api/v1`, `/apis/GROUP/VERSION`: discovery.
    Discovery(Discovery),
    /// Objects, or one.
    Objects(Target),
}

/// A level of discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// The versions of the core group.
    Core,
    /// All groups.
    Groups,
    /// The versions of one.
    Group(String),
    /// The resources of a group's version.
    Version(String, String),
}

/// Which objects of which resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The API group.
    pub group: String,
    /// The version asked for.
    pub version: String,
    /// The resource.
    pub plural: String,
    /// The namespace, where one is given.
    pub namespace: Option<String>,
    /// The object, where one is given.
    pub name: Option<String>,
    /// `status`, where it is that.
    pub subresource: Option<String>,
}

/// Reads a path.
pub fn named(path: &str) -> Option<Named> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let owned = |text: &str| text.to_owned();
    let (group, version, rest) = match parts.as_slice() {
        ["api"] => return Some(Named::Discovery(Discovery::Core)),
        ["apis"] => return Some(Named::Discovery(Discovery::Groups)),
        ["apis", group] => return Some(Named::Discovery(Discovery::Group(owned(group)))),
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        [] => return Some(Named::Discovery(Discovery::Version(owned(group), owned(version)))),
        // `/namespaces/NAME` and `/namespaces/NAME/status` are the namespace itself.
        ["namespaces", _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(owned(namespace)), rest),
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(owned(name)), None),
        [plural, name, subresource] => (*plural, Some(owned(name)), Some(owned(subresource))),
        _ => return None,
    };
    let (group, version, plural) = (owned(group), owned(version), owned(plural));
    Some(Named::Objects(Target { group, version, plural, namespace, name, subresource }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            ("/api/v1/namespaces", "||namespaces|||"),
            ("/api/v1/namespaces/a", "||namespaces||a|"),
            ("/api/v1/namespaces/a/status", "||namespaces||a|status"),
            ("/api/v1/namespaces/a/secrets", "||secrets|a||"),
            ("/apis/networking.k8s.io/v1/ingresses", "|networking.k8s.io|ingresses|||"),
            (
                "/apis/networking.k8s.io/v1/namespaces/a/ingresses/b/status",
                "|networking.k8s.io|ingresses|a|b|status",
            ),
        ];
        for (path, expected) in cases {
            let Some(Named::Objects(target)) = named(path) else { panic!("{path} names no objects") };
            let found = format!(
                "|{}|{}|{}|{}|{}",
                target.group,
                target.plural,
                target.namespace.unwrap_or_default(),
                target.name.unwrap_or_default(),
                target.subresource.unwrap_or_default()
            );
            assert_eq!(found, expected, "{path}");
        }
        assert_eq!(named("/version"), None);
        assert_eq!(named("/apis"), Some(Named::Discovery(Discovery::Groups)));
    }
}
