//! Which cases are loaded together.
//!
//! Starting the product is dear, so cases share a run where they cannot disturb each other: the same
//! configuration, services that agree, objects with different names. Isolated cases share only when, besides,
//! their hosts differ and none of them takes requests for hosts it does not name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::case::{Ability, Case, CaseFile};
use crate::manifests::{Facts, facts};
use crate::site::Backend;

/// The only address that is trusted to say whom it speaks for, in cases with a `client_ip`.
pub const TRUSTED_PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Cases that are loaded together.
#[derive(Debug, Clone)]
pub struct Group {
    /// The cases, in the order of their file.
    pub cases: Vec<Arc<Member>>,
    /// Data of the controller's ConfigMap.
    pub config: BTreeMap<String, String>,
    /// The services of all cases, by name.
    pub backends: BTreeMap<String, Backend>,
    isolated: bool,
    objects: BTreeSet<String>,
    hosts: BTreeSet<String>,
    catch_all: bool,
}

/// A case, and what was seen in its manifests.
#[derive(Debug)]
pub struct Member {
    /// The case.
    pub case: Case,
    /// What was seen.
    pub facts: Facts,
}

/// Puts the cases of files into groups. Groups do not cross files; the order of files and cases is kept.
pub fn group(files: Vec<CaseFile>) -> Vec<Group> {
    let mut groups = Vec::new();
    for file in files {
        let mut of_file: Vec<Group> = Vec::new();
        for case in file.cases {
            let member = Arc::new(Member { facts: facts(&case), case });
            let alone = Group::alone(&member);
            match of_file.iter_mut().find(|group| group.accepts(&alone)) {
                Some(group) => group.join(alone),
                None => of_file.push(alone),
            }
        }
        groups.extend(of_file);
    }
    groups
}

impl Group {
    fn alone(member: &Arc<Member>) -> Self {
        let Member { case, facts } = &**member;
        let cluster_ip = !case.needs.contains(&Ability::NoClusterIp);
        let backend = |service: &crate::case::ServicePort| {
            let (endpoints, dead) = case.endpoints_of(&service.name);
            let name = service.name.clone();
            (name.clone(), Backend { name, port: service.port, endpoints, dead, cluster_ip })
        };
        Self {
            config: config(case),
            backends: case.services.iter().map(backend).collect(),
            isolated: case.isolated,
            objects: facts.objects.clone(),
            hosts: facts.hosts.clone(),
            catch_all: facts.catch_all,
            cases: vec![Arc::clone(member)],
        }
    }

    fn accepts(&self, other: &Self) -> bool {
        let agree = |(name, backend): (&String, &Backend)| {
            other.backends.get(name).is_none_or(|others| others == backend)
        };
        let apart = || self.hosts.is_disjoint(&other.hosts) && !self.catch_all && !other.catch_all;
        self.isolated == other.isolated
            && self.config == other.config
            && self.backends.iter().all(agree)
            && self.objects.is_disjoint(&other.objects)
            && (!self.isolated || apart())
    }

    fn join(&mut self, other: Self) {
        self.cases.extend(other.cases);
        self.backends.extend(other.backends);
        self.objects.extend(other.objects);
        self.hosts.extend(other.hosts);
        self.catch_all |= other.catch_all;
    }
}

/// The configuration that a case is run with: its own, and the trust in the runner's proxy when a request
/// seems to come from elsewhere. That trust is not for other cases: it changes what is forwarded.
fn config(case: &Case) -> BTreeMap<String, String> {
    let mut config = case.config.clone();
    if case.requests.iter().any(|request| request.client_ip.is_some()) {
        let trusted = format!("{}/32", IpAddr::V4(TRUSTED_PROXY));
        config.entry("use-forwarded-headers".to_owned()).or_insert_with(|| "true".to_owned());
        config.entry("proxy-real-ip-cidr".to_owned()).or_insert(trusted);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case with an Ingress for its own host; `extra` are further keys, `rest` continues its only request.
    fn case(name: &str, extra: &str, rest: &str) -> String {
        format!(
            "- name: {name}
  source: s
  area: x
  services: ['web:80']
  {extra}
  manifests: |
    kind: Ingress
    metadata: {{name: {name}}}
    spec: {{rules: [{{host: {name}.example, http: {{paths: [{{backend: {{service: {{name: web}}}}}}]}}}}]}}
  requests:
    - url: http://{name}.example/
      {rest}
"
        )
    }

    fn names(cases: &[String]) -> Vec<Vec<String>> {
        let cases = crate::case::parse(&cases.concat()).unwrap();
        let groups = group(vec![CaseFile { path: "a.yaml".into(), cases }]);
        groups
            .iter()
            .map(|group| group.cases.iter().map(|member| member.case.name.clone()).collect())
            .collect()
    }

    #[test]
    fn cases_share_where_nothing_disagrees() {
        let config = "config: {a: b}\n  isolated: true";
        let catch_all = "isolated: true";
        let cases = [
            case("a", "", ""),
            case("b", "", ""),
            case("c", "endpoints: {web: 2}", ""),
            case("d", "endpoints: {web: 2}", ""),
            case("e", "", "client_ip: 192.0.2.1"),
            case("f", config, ""),
            case("g", config, ""),
            case("h", catch_all, "").replace("host: h.example, ", ""),
            case("i", catch_all, "").replace("host: i.example, ", ""),
            case("j", "needs: [no-cluster-ip]", ""),
            case("k", "dead_endpoints: {web: 1}", ""),
        ];
        let expected = [&["a", "b"][..], &["c", "d"], &["e"], &["f", "g"], &["h"], &["i"], &["j"], &["k"]];
        assert_eq!(names(&cases), expected);
    }

    #[test]
    fn isolated_cases_with_the_same_host_or_object_stay_apart() {
        let isolated = "isolated: true";
        let same_host = case("b", isolated, "").replace("b.example", "A.example");
        assert_eq!(names(&[case("a", isolated, ""), same_host]).len(), 2);
        let same_object = case("b", "", "").replace("{name: b}", "{name: a}");
        assert_eq!(names(&[case("a", "", ""), same_object]).len(), 2);
    }

    #[test]
    fn client_address_brings_trust() {
        let text = case("a", "config: {use-forwarded-headers: 'false'}", "client_ip: 192.0.2.1");
        let cases = crate::case::parse(&text).unwrap();
        let group = group(vec![CaseFile { path: "a.yaml".into(), cases }]).remove(0);
        assert_eq!(group.config.get("proxy-real-ip-cidr").map(String::as_str), Some("127.0.0.9/32"));
        assert_eq!(
            group.config.get("use-forwarded-headers").map(String::as_str),
            Some("false"),
            "its own wins"
        );
    }
}
