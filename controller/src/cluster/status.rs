//! The status of Ingresses: the addresses at which they are served, written by the replica that leads.
//!
//! Only what differs is written, and an address that somebody else overwrites is not written again within
//! [`FIGHT`]: two controllers that serve one class do not fight. An Ingress that goes to another class keeps its
//! status, as with ingress-nginx: its new controller writes another.
//!
//! Deliberately knows nothing of where addresses come from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ingress_wasm_translate::objects::ObjectName;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::StatusSettings;
use super::activity::Activity;
use super::addresses::{self, Address, OwnPod, Unknown};
use super::leader::Leadership;
use super::raw::Identity;
use super::served::{Receiver, Served};

/// How long a status that was overwritten by others stays as they wrote it.
const FIGHT: Duration = Duration::from_secs(60);

/// How often the addresses are looked up while this replica leads; those of nodes less often, since there may be many.
const PERIOD: Duration = Duration::from_secs(10);
const PERIOD_OF_NODES: Duration = Duration::from_secs(60);

/// The pause between two looks at what is to be written.
const PAUSE: Duration = Duration::from_millis(200);

/// How many writes are under way at a time.
const PARALLEL: usize = 10;

/// The pause between the beginnings of two writes.
const SPACING: Duration = Duration::from_millis(5);

/// How many are written before it is looked again what is to be written.
const BATCH: usize = 200;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long clearing the status may take at the end.
const CLEARING: Duration = Duration::from_secs(30);

/// What the task works with.
pub struct Status {
    /// The client of the API server.
    pub client: Client,
    /// What is to be published.
    pub settings: StatusSettings,
    /// The pod that this runs in.
    pub own: OwnPod,
    /// The Ingresses, and what their status is.
    pub served: Receiver,
    /// Whether this replica writes.
    pub leadership: Leadership,
    /// Told what is written.
    pub activity: Arc<Activity>,
}

/// The task that writes.
#[derive(Debug)]
pub struct Writer {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Ends. The status is cleared if this is the last replica and it should be.
    pub async fn finish(self) {
        self.end.send_replace(true);
        let _ = self.task.await;
    }
}

/// What was written to an Ingress.
#[derive(Debug)]
struct Written {
    uid: String,
    addresses: Arc<Vec<Address>>,
    at: Instant,
}

struct Site {
    status: Status,
    addresses: Option<Arc<Vec<Address>>>,
    written: BTreeMap<ObjectName, Written>,
    /// Why the addresses are not known, as it was said last.
    said: String,
    /// When to try again what failed or had to wait.
    again: Option<Instant>,
}

impl Status {
    /// Begins to write.
    pub fn start(self) -> Writer {
        let (end, ends) = watch::channel(false);
        let site = Site {
            status: self,
            addresses: None,
            written: BTreeMap::new(),
            said: String::new(),
            again: None,
        };
        Writer { end, task: tokio::spawn(site.run(ends)) }
    }
}

impl Site {
    async fn run(mut self, mut ends: watch::Receiver<bool>) {
        let settings = &self.status.settings;
        let by_nodes = settings.publish_service.is_none() && settings.publish_addresses.is_empty();
        let mut look = tokio::time::interval(if by_nodes { PERIOD_OF_NODES } else { PERIOD });
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let again = self.again;
            tokio::select! {
                biased;
                () = told(&mut ends) => break,
                () = self.status.leadership.changed() => self.addresses = None,
                _ = look.tick() => tokio::select! {
                    () = self.find() => {}
                    () = told(&mut ends) => break,
                },
                Ok(()) = self.status.served.changed() => {}
                () = until(again), if again.is_some() => {}
            }
            if !self.status.leadership.holds() {
                continue;
            }
            tokio::select! {
                () = async {
                    if self.addresses.is_none() {
                        self.find().await;
                    }
                    self.sync().await;
                    tokio::time::sleep(PAUSE).await;
                } => {}
                () = told(&mut ends) => break,
            }
        }
        if tokio::time::timeout(CLEARING, self.clear()).await.is_err() {
            tracing::warn!("the status of some Ingresses is not cleared: it took too long");
        }
    }

    /// Looks up the addresses. Those that were known stay where that fails.
    async fn find(&mut self) {
        if !self.status.leadership.holds() {
            return;
        }
        let Status { client, settings, own, .. } = &self.status;
        let found = tokio::time::timeout(PATIENCE, addresses::find(client, settings, own)).await;
        match found.unwrap_or(Err(Unknown::NoAnswer)) {
            Ok(found) => {
                if self.addresses.as_deref() != Some(&found) {
                    tracing::info!(addresses = words(&found), "published as the status of Ingresses");
                    self.addresses = Some(Arc::new(found));
                }
                self.said.clear();
            }
            Err(error) => {
                let error = error.to_string();
                if error != self.said {
                    tracing::warn!(
                        error,
                        "the addresses for the status of Ingresses are not known: status stays as it is"
                    );
                    self.said = error;
                }
            }
        }
    }

    /// Writes the status of all Ingresses that have another.
    async fn sync(&mut self) {
        self.again = None;
        let Some(wanted) = self.addresses.clone() else { return };
        loop {
            let served = self.status.served.borrow_and_update().clone();
            if served.generation.is_empty() {
                return;
            }
            let due = self.due(&served, &wanted);
            if due.is_empty() || !self.status.leadership.holds() {
                return;
            }
            let more = due.len() > BATCH;
            let failed = self.write(due.into_iter().take(BATCH), &wanted).await;
            if failed {
                // In distress it is not pressed.
                let soon = Instant::now() + Duration::from_secs(2);
                self.again = Some(self.again.map_or(soon, |again| again.min(soon)));
                return;
            }
            if !more {
                return;
            }
        }
    }

    /// The Ingresses whose status is another and may be written now.
    fn due(&mut self, served: &Served, wanted: &Arc<Vec<Address>>) -> Vec<(ObjectName, Arc<Identity>)> {
        self.written.retain(|name, _| served.ingresses.contains_key(name));
        let mut due = Vec::new();
        for (name, identity) in served.ingresses.iter() {
            if published(&identity.status) == **wanted {
                continue;
            }
            if let Some(written) = self.written.get(name)
                && written.uid == identity.uid
                && written.addresses == *wanted
            {
                // Either the watch has not told of it yet, or somebody else has written since.
                let end = written.at + FIGHT;
                if Instant::now() < end {
                    self.again = Some(self.again.map_or(end, |again| again.min(end)));
                    continue;
                }
                tracing::warn!(
                    ingress = %name,
                    "another controller writes the status of this Ingress too: is it of the same class?"
                );
            }
            due.push((name.clone(), Arc::clone(identity)));
        }
        due
    }

    /// Writes the status of some. Gives whether any failed.
    async fn write(
        &mut self,
        due: impl Iterator<Item = (ObjectName, Arc<Identity>)>,
        wanted: &Arc<Vec<Address>>,
    ) -> bool {
        let Status { client, leadership, activity, .. } = &self.status;
        let body = body(wanted);
        let mut pace = tokio::time::interval(SPACING);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        let mut done = Vec::new();
        for (name, identity) in due {
            pace.tick().await;
            if under_way.len() >= PARALLEL {
                done.extend(under_way.next().await);
            }
            let write = write_one(client, &body, name, identity);
            under_way.push(async { leadership.while_held(write).await });
        }
        while let Some(one) = under_way.next().await {
            done.push(one);
        }
        drop(under_way);
        let mut failed = false;
        for (name, identity, outcome) in done.into_iter().flatten() {
            match outcome {
                Ok(()) => {
                    activity.status_write("written");
                    let uid = identity.uid.clone();
                    let written = Written { uid, addresses: Arc::clone(wanted), at: Instant::now() };
                    self.written.insert(name, written);
                }
                Err(error) => {
                    activity.status_write("failed");
                    // One line for all: there may be thousands.
                    if !failed {
                        tracing::warn!(ingress = %name, error, "cannot write the status: it is tried again");
                    }
                    failed = true;
                }
            }
        }
        failed
    }

    /// At the end: takes the addresses out of the status where nobody is left to serve them.
    async fn clear(&mut self) {
        let Status { client, settings, own, leadership, .. } = &self.status;
        let (true, true) = (settings.clear_at_end, leadership.holds()) else { return };
        let Some(addresses) = self.addresses.clone() else { return };
        // As in ingress-nginx: with several addresses there are others to write them.
        if addresses.len() > 1 && settings.publish_service.is_none() && settings.publish_addresses.is_empty()
        {
            tracing::info!("the status of Ingresses is left to the next that leads");
            return;
        }
        match own.has_others(client).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("other replicas go on: the status of Ingresses stays");
                return;
            }
            // Outside of a cluster there are no replicas to be found.
            Err(Unknown::NoPod) if own.name.is_none() => {}
            Err(error) => {
                tracing::warn!(%error, "it is not known whether other replicas go on: the status of Ingresses stays");
                return;
            }
        }
        let served = self.status.served.borrow().clone();
        let ours = served.ingresses.iter().filter(|(name, identity)| {
            // What was written last may not be seen yet.
            published(&identity.status) == *addresses || self.written.contains_key(*name)
        });
        let ours: Vec<_> = ours.map(|(name, identity)| (name.clone(), Arc::clone(identity))).collect();
        tracing::info!(ingresses = ours.len(), "the last replica ends: the status of Ingresses is cleared");
        let nothing = Arc::default();
        self.write(ours.into_iter(), &nothing).await;
    }
}

async fn write_one(
    client: &Client,
    body: &Value,
    name: ObjectName,
    identity: Arc<Identity>,
) -> (ObjectName, Arc<Identity>, Result<(), String>) {
    let ingresses: Api<Ingress> = Api::namespaced(client.clone(), &name.namespace);
    let params = PatchParams::default();
    let patch = Patch::Merge(body);
    let write = ingresses.patch_status(&name.name, &params, &patch);
    let outcome = match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(_)) => Ok(()),
        // It is gone, which the watch is about to tell.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    (name, identity, outcome)
}

/// What is written. A field that is null is taken away.
fn body(addresses: &[Address]) -> Value {
    let entry = |address: &Address| match address {
        Address { hostname, ip } if ip.is_empty() => json!({"hostname": hostname}),
        Address { ip, .. } => json!({"ip": ip}),
    };
    let entries: Vec<Value> = addresses.iter().map(entry).collect();
    let entries = if entries.is_empty() { Value::Null } else { Value::Array(entries) };
    json!({"status": {"loadBalancer": {"ingress": entries}}})
}

/// The addresses in a status, in order.
fn published(status: &Value) -> Vec<Address> {
    let entries = status.pointer("/loadBalancer/ingress").and_then(Value::as_array);
    let text =
        |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let entries = entries.into_iter().flatten();
    let mut addresses: Vec<Address> =
        entries.map(|entry| Address { hostname: text(entry, "hostname"), ip: text(entry, "ip") }).collect();
    addresses.sort();
    addresses
}

fn words(addresses: &[Address]) -> String {
    let word = |address: &Address| {
        if address.ip.is_empty() { address.hostname.clone() } else { address.ip.clone() }
    };
    addresses.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Waits for the end.
async fn told(ends: &mut watch::Receiver<bool>) {
    let _ = ends.wait_for(|end| *end).await;
}

async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_is_written() {
        let addresses = |list: &[(&str, &str)]| -> Vec<Address> {
            let address = |(hostname, ip): &(&str, &str)| Address {
                hostname: (*hostname).to_owned(),
                ip: (*ip).to_owned(),
            };
            list.iter().map(address).collect()
        };
        for list in [addresses(&[]), addresses(&[("", "1.2.3.4"), ("a.example", "")])] {
            assert_eq!(published(body(&list).get("status").expect("a status")), list);
        }
        assert_eq!(body(&[]), json!({"status": {"loadBalancer": {"ingress": null}}}));
    }

    #[test]
    fn the_order_of_a_status_means_nothing_and_odd_ones_are_no_errors() {
        let status = json!({"loadBalancer": {"ingress": [
            {"hostname": "b", "ports": [{"port": 80, "protocol": "TCP"}]}, {"ip": "2.2.2.2"}, {"hostname": "a"}, {"ip": "1.1.1.1"}]}});
        assert_eq!(words(&published(&status)), "1.1.1.1, 2.2.2.2, a, b");
        for odd in [json!(null), json!({"loadBalancer": []}), json!({"loadBalancer": {"ingress": null}})] {
            assert_eq!(published(&odd), Vec::new(), "{odd}");
        }
        assert_eq!(words(&published(&json!({"loadBalancer": {"ingress": [3]}}))), "");
    }
}
