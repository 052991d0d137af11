//! Which Ingresses are ours: by class, as ingress-nginx chooses them (`store.go`, `GetIngressClass`).

use crate::diagnostic::Diagnostic;
use crate::objects::{Ingress, IngressApi, Kind, ObjectName, ObjectRef, Snapshot};
use crate::output::Options;
use crate::references::names_config_map;
use crate::report::Report;

/// The annotation of the time before `spec.ingressClassName`.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// The annotation of an IngressClass that takes the Ingresses without a class.
const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Whether an Ingress is served, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Ours,
    /// It belongs to another controller: passed over in silence but for a note.
    Theirs(Diagnostic),
    /// Nobody may serve it: its author should know.
    Nobodys(Diagnostic),
}

/// Says whether an Ingress is served.
pub fn claim(ingress: &Ingress, snapshot: &Snapshot, options: &Options) -> Claim {
    if let Some(class) = ingress.class_name.as_deref().filter(|class| !class.is_empty()) {
        return by_class(ingress, class, snapshot, options);
    }
    if let Some(class) =
        ingress.metadata.annotations.get(CLASS_ANNOTATION).filter(|class| !class.value.is_empty())
    {
        let field = format!("metadata.annotations[\"{CLASS_ANNOTATION}\"]");
        return if class.value == options.ingress_class {
            Claim::Ours
        } else {
            Claim::Theirs(passed_over(ingress, options, field, &class.value))
        };
    }
    without_class(ingress, snapshot, options)
}

/// Reports parameters of IngressClasses of ours that nothing is read from.
pub fn check_parameters(snapshot: &Snapshot, options: &Options, report: &mut Report) {
    for class in snapshot.classes.values() {
        let Some(parameters) = &class.parameters else { continue };
        let ours = options.controller_classes.contains(&class.controller);
        let read = names_config_map(parameters) && options.config_map.as_ref() == Some(&parameters.name);
        if !ours || read {
            continue;
        }
        let consequence = if names_config_map(parameters) {
            "the parameters are not read: there is one ConfigMap with global options, and it is another"
        } else {
            "the parameters are not read: only a ConfigMap in a namespace can hold them"
        };
        let remedy = match &options.config_map {
            Some(map) => format!("put the options into the ConfigMap {map}"),
            None => "name a ConfigMap: kind, name, scope Namespace and namespace".to_owned(),
        };
        let reference = ObjectRef { kind: Kind::IngressClass, name: class.metadata.name.clone() };
        report.add(
            Diagnostic::warning("class-parameters-unread", consequence)
                .object(reference, class.metadata.source.clone())
                .field("spec.parameters", &format!("{} {}", parameters.kind, parameters.name))
                .remedy(remedy),
        );
    }
}

fn by_class(ingress: &Ingress, class: &str, snapshot: &Snapshot, options: &Options) -> Claim {
    let known = snapshot.classes.get(&ObjectName::new("", class));
    let field = "spec.ingressClassName";
    match known {
        Some(known) if options.controller_classes.contains(&known.controller) => Claim::Ours,
        Some(_) if options.class_by_name && class == options.ingress_class => Claim::Ours,
        Some(_) => Claim::Theirs(passed_over(ingress, options, field.to_owned(), class)),
        // Manifests in a folder seldom come with the IngressClass, which belongs to the cluster.
        None if class == options.ingress_class => Claim::Ours,
        None => Claim::Theirs(passed_over(ingress, options, field.to_owned(), class)),
    }
}

fn without_class(ingress: &Ingress, snapshot: &Snapshot, options: &Options) -> Claim {
    let is_default = |annotations: &std::collections::BTreeMap<String, crate::objects::Annotation>| {
        annotations.get(DEFAULT_CLASS_ANNOTATION).is_some_and(|annotation| annotation.value == "true")
    };
    let mut defaults =
        snapshot.classes.values().filter(|class| is_default(&class.metadata.annotations)).peekable();
    let has_default = defaults.peek().is_some();
    if defaults.any(|class| options.controller_classes.contains(&class.controller))
        || options.ingress_without_class
    {
        return Claim::Ours;
    }
    if has_default {
        return Claim::Theirs(passed_over(ingress, options, "spec.ingressClassName".to_owned(), ""));
    }
    // In the time of these versions there were no classes: every controller took an Ingress without one.
    if ingress.api != IngressApi::NetworkingV1 {
        return Claim::Ours;
    }
    let consequence = "the Ingress names no class and no IngressClass is the default: it is not served";
    Claim::Nobodys(
        Diagnostic::warning("class-missing", consequence)
            .object(crate::ingress_ref(ingress), ingress.metadata.source.clone())
            .field("spec.ingressClassName", "")
            .remedy(format!(
                "write `ingressClassName: {}`, mark an IngressClass as the default, or serve all with \
                 --watch-ingress-without-class",
                options.ingress_class
            )),
    )
}

fn passed_over(ingress: &Ingress, options: &Options, field: String, class: &str) -> Diagnostic {
    let consequence = "the Ingress belongs to another class: it is not served here";
    Diagnostic::note("class-of-another", consequence)
        .object(crate::ingress_ref(ingress), ingress.metadata.source.clone())
        .field(field, class)
        .remedy(format!("if it should be served here, name the class `{}`", options.ingress_class))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::{merge_into, read};

    /// Objects, and what is claimed: `ours`, `theirs` or `nobodys`.
    fn claimed(objects: &str, options: &Options) -> &'static str {
        let mut snapshot = Snapshot::default();
        merge_into(&mut snapshot, read(&Arc::from("t.yaml"), objects).objects);
        let ingress = snapshot.ingresses.values().next().unwrap_or_else(|| panic!("no Ingress in {objects}"));
        match claim(ingress, &snapshot, options) {
            Claim::Ours => "ours",
            Claim::Theirs(_) => "theirs",
            Claim::Nobodys(_) => "nobodys",
        }
    }

    fn ingress(api: &str, class: Option<&str>, annotation: Option<&str>) -> String {
        let annotation = annotation
            .map(|class| format!(", annotations: {{{CLASS_ANNOTATION}: \"{class}\"}}"))
            .unwrap_or_default();
        let class = class.map(|class| format!("ingressClassName: {class}")).unwrap_or_default();
        let default = match api {
            "networking.k8s.io/v1" => "defaultBackend: {service: {name: a, port: {number: 80}}}",
            _ => "backend: {serviceName: a, servicePort: 80}",
        };
        format!(
            "apiVersion: {api}\nkind: Ingress\nmetadata: {{name: a{annotation}}}\nspec:\n  {default}\n  {class}\n"
        )
    }

    fn class(name: &str, controller: &str, default: bool) -> String {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}, annotations: \
             {{{DEFAULT_CLASS_ANNOTATION}: \"{default}\"}}}}\nspec: {{controller: {controller}}}\n"
        )
    }

    #[test]
    fn claims() {
        let (v1, beta, old) = ("networking.k8s.io/v1", "networking.k8s.io/v1beta1", "extensions/v1beta1");
        let (ours, own, other) = ("k8s.io/ingress-nginx", "ingress-wasm.io/controller", "example.com/other");
        let none = String::new;
        let cases = [
            (v1, Some("nginx"), None, none(), "ours"),
            (v1, Some("traefik"), None, none(), "theirs"),
            (v1, Some("nginx"), None, class("nginx", other, false), "theirs"),
            (v1, Some("edge"), None, class("edge", ours, false), "ours"),
            (v1, Some("edge"), None, class("edge", own, false), "ours"),
            (v1, Some("edge"), None, class("nginx", ours, false), "theirs"),
            (v1, Some("nginx-2"), None, none(), "theirs"),
            (v1, None, Some("nginx"), none(), "ours"),
            (v1, None, Some("traefik"), none(), "theirs"),
            // The annotation names no object: an IngressClass of that name says nothing of it.
            (v1, None, Some("edge"), class("edge", ours, false), "theirs"),
            (v1, Some("nginx"), Some("traefik"), none(), "ours"),
            (v1, Some("traefik"), Some("nginx"), none(), "theirs"),
            (v1, None, None, none(), "nobodys"),
            (v1, None, None, class("a", ours, false), "nobodys"),
            (v1, None, None, class("a", ours, true), "ours"),
            (v1, None, None, class("a", other, true), "theirs"),
            (v1, None, None, class("a", other, true) + &class("b", ours, true), "ours"),
            (beta, None, None, none(), "ours"),
            (old, None, None, none(), "ours"),
            (old, None, None, class("a", other, true), "theirs"),
            (old, None, Some("traefik"), none(), "theirs"),
        ];
        for (api, field, annotation, classes, expected) in cases {
            let objects = ingress(api, field, annotation) + &classes;
            assert_eq!(claimed(&objects, &Options::default()), expected, "{objects}");
        }
    }

    #[test]
    fn claims_by_name() {
        let options = Options { class_by_name: true, ..Options::default() };
        let ingress = |name| ingress("networking.k8s.io/v1", Some(name), None);
        let cases = [
            (ingress("nginx") + &class("nginx", "example.com/other", false), "ours"),
            (ingress("edge") + &class("edge", "example.com/other", false), "theirs"),
            (ingress("edge") + &class("edge", "k8s.io/ingress-nginx", false), "ours"),
        ];
        for (objects, expected) in cases {
            assert_eq!(claimed(&objects, &options), expected, "{objects}");
        }
    }

    #[test]
    fn claims_without_class_when_watched() {
        let options = Options { ingress_without_class: true, ..Options::default() };
        let v1 = "networking.k8s.io/v1";
        let cases = [
            (ingress(v1, None, None), "ours"),
            (ingress(v1, None, None) + &class("a", "example.com/other", true), "ours"),
            (ingress(v1, Some("traefik"), None), "theirs"),
            (ingress(v1, None, Some("traefik")), "theirs"),
        ];
        for (objects, expected) in cases {
            assert_eq!(claimed(&objects, &options), expected, "{objects}");
        }
    }
}
