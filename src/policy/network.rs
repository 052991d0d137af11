//! IP networks, and sets of them that are asked about on each request.

use std::fmt;
use std::net::IpAddr;

/// An IP network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// Length of the prefix in bits: up to 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

impl Network {
    /// An address or `address/prefix`, as Go reads them. Host bits are cleared.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            // Go takes digits only, without a sign.
            Some((address, prefix)) if is_short_number(prefix) => (address, Some(prefix.parse().ok()?)),
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        let host_bits = u32::from(bits.checked_sub(prefix)?);
        let address = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into())
            }
        };
        Some(Network { address, prefix })
    }

    /// First and last address on the line of [`position`].
    fn range(self) -> (u128, u128) {
        let first = position(self.address);
        let width: u32 = if self.address.is_ipv4() { 32 } else { 128 };
        let hosts = u128::MAX.checked_shl(width.saturating_sub(u32::from(self.prefix))).unwrap_or(0);
        (first, first | !hosts)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

fn is_short_number(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// All addresses on one line: those of IPv4 stand where IPv6 maps them.
fn position(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A set of addresses: disjoint ranges in order, so that looking one up is a binary search without
/// allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSet {
    ranges: Box<[(u128, u128)]>,
}

impl NetworkSet {
    /// The addresses of any of these networks. An IPv4 address is never in an IPv6 network, as in nginx, but
    /// for one of mapped addresses (`::ffff:0:0/96` and within it).
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Self {
        /// First and last of the mapped addresses.
        const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);
        let mut all = Vec::new();
        for network in networks {
            let (first, last) = network.range();
            if first < MAPPED.0 && last >= MAPPED.1 {
                all.push((first, MAPPED.0.saturating_sub(1)));
                if last > MAPPED.1 {
                    all.push((MAPPED.1.saturating_add(1), last));
                }
            } else {
                all.push((first, last));
            }
        }
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        NetworkSet { ranges: ranges.into() }
    }

    /// Reads a list.
    ///
    /// # Errors
    ///
    /// The position of the network that cannot be read, and why.
    pub fn parse(list: &[String]) -> Result<Self, (usize, String)> {
        let mut networks = Vec::with_capacity(list.len());
        for (index, text) in list.iter().enumerate() {
            let network = Network::parse(text.trim()).ok_or_else(|| {
                (index, format!("`{text}` is not an address or a network such as 10.0.0.0/8"))
            })?;
            networks.push(network);
        }
        Ok(Self::new(networks))
    }

    /// Whether an address lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let position = position(address);
        let next = self.ranges.partition_point(|range| range.1 < position);
        self.ranges.get(next).is_some_and(|range| range.0 <= position)
    }

    /// Whether there is no address in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn addresses_and_networks() {
        let cases = [
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::1", Some("::1/128")),
            ("2001:db8::1/32", Some("2001:db8::/32")),
            ("::/0", Some("::/0")),
            ("10.0.0.256", None),
            ("10.0.0.0/33", None),
            ("::/129", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/-1", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/8/8", None),
            ("10.0.0", None),
            ("010.0.0.1", None),
            ("host.example", None),
            ("", None),
        ];
        for (input, expected) in cases {
            let found = Network::parse(input).map(|network| network.to_string());
            assert_eq!(found.as_deref(), expected, "{input}");
        }
    }

    #[test]
    fn addresses_in_sets() {
        let cases: [(&[&str], &[&str], &[&str]); 10] = [
            (&[], &[], &["0.0.0.0", "::", "::1"]),
            (&["10.0.0.0/8"], &["10.0.0.0", "10.255.255.255"], &["9.255.255.255", "11.0.0.0", "::1", "::"]),
            (&["10.0.0.7/31"], &["10.0.0.6", "10.0.0.7"], &["10.0.0.5", "10.0.0.8"]),
            (&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255"], &["::", "::1", "ffff::", "::1:0:0:0"]),
            (&["::/0"], &["::", "::1", "::fffe:ffff:ffff", "::1:0:0:0", "ffff::"], &["1.1.1.1", "0.0.0.0"]),
            (&["::/80"], &["::", "::fffe:ffff:ffff"], &["255.255.255.255", "0.0.0.0", "::1:0:0:0"]),
            (&["::ffff:10.0.0.0/104"], &["10.1.1.1"], &["11.0.0.0", "::1"]),
            (&["2001:db8::/32", "::1"], &["2001:db8:ffff::", "::1"], &["2001:db9::", "::2", "::"]),
            (
                &["10.0.0.4/30", "10.0.0.0/30", "10.0.0.0/31", "10.0.0.9"],
                &["10.0.0.0", "10.0.0.3", "10.0.0.7", "10.0.0.9"],
                &["10.0.0.8", "10.0.0.10"],
            ),
            (&["10.0.0.0/8", "10.1.0.0/16", "::/0"], &["10.2.0.0", "10.1.0.0", "::7"], &["11.0.0.0"]),
        ];
        for (networks, within, without) in cases {
            let list: Vec<String> = networks.iter().map(|network| (*network).to_owned()).collect();
            let set = NetworkSet::parse(&list).expect("reads");
            for (addresses, expected) in [(within, true), (without, false)] {
                for address in addresses {
                    let found = set.contains(address.parse().expect(address));
                    assert_eq!(found, expected, "{networks:?} {address}: {set:?}");
                }
            }
        }
    }

    #[test]
    fn a_fault_in_a_list_has_its_place() {
        let list = ["10.0.0.0/8".to_owned(), " ::1 ".to_owned(), "x".to_owned()];
        let (index, reason) = NetworkSet::parse(&list).expect_err("refused");
        assert_eq!((index, reason.contains("`x`")), (2, true));
    }
}
