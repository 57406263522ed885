//! Addresses that are not asked (CRED-22).
//!
//! Whoever may create a Pod chooses its image, and with that, by docker's rule, the host of a trust server. What
//! listens on loopback or answers on a cloud's metadata address takes requests from this process for its own.

use std::collections::BTreeSet;
use std::env;
use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::{Error, host_of};

/// Who named a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An administrator: it may be anywhere. Only token services elsewhere are kept off metadata addresses.
    Configured,
    /// The policy of a namespace: it may be anywhere but on a metadata address.
    Namespace,
    /// The image reference, by docker's rule: it may be neither here nor on a metadata address.
    Image,
}

/// Looks at every address before it is connected to, those in URLs as well as those that names resolve to.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    origin: Origin,
    /// The configured server, which may be anywhere.
    server: Option<String>,
    /// Where connections go that take a way of their own; resolved like servers, but never named by an image.
    proxies: BTreeSet<String>,
}

impl Guard {
    pub(super) fn new(server: &Url, origin: Origin) -> Self {
        Self::with_proxies(server, origin, proxies())
    }

    fn with_proxies(server: &Url, origin: Origin, proxies: BTreeSet<String>) -> Self {
        let server = server
            .host_str()
            .filter(|_| origin == Origin::Configured)
            .map(str::to_owned);
        Self {
            origin,
            server,
            proxies,
        }
    }

    /// Refuses a URL whose host is a literal address that may not be asked. Names are looked at once resolved, but
    /// for those of proxies: their addresses are not looked at, so only an administrator may name them.
    pub(super) fn admit(&self, url: &Url) -> Result<(), Error> {
        let name = url.host_str().unwrap_or_default();
        let forbidden = match url.host() {
            _ if self.server.as_deref() == Some(name) => false,
            Some(Host::Ipv4(address)) => self.forbids(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.forbids(IpAddr::V6(address)),
            Some(Host::Domain(name)) => self.origin != Origin::Configured && self.proxies.contains(name),
            None => true,
        };
        if forbidden {
            Err(Error::ForbiddenAddress { host: host_of(url) })
        } else {
            Ok(())
        }
    }

    fn exempts(&self, name: &str) -> bool {
        self.server.as_deref() == Some(name) || self.proxies.contains(name)
    }

    fn forbids(&self, address: IpAddr) -> bool {
        let address = unwrapped(address);
        match self.origin {
            Origin::Configured | Origin::Namespace => is_metadata(address),
            Origin::Image => is_metadata(address) || is_here(address),
        }
    }
}

impl Resolve for Guard {
    /// Resolves as the system does. One forbidden address spoils the name: which of them is connected to would
    /// otherwise be the name's owner's choice.
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !guard.exempts(name.as_str()) && found.iter().any(|address| guard.forbids(address.ip())) {
                return Err(Box::new(Forbidden) as Box<dyn StdError + Send + Sync>);
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A name resolved to an address that may not be asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the address is not to be asked")]
pub(super) struct Forbidden;

/// The IPv4 address inside an IPv6 one: mapped, or behind the well-known prefix of NAT64 (RFC 6052).
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [.., a, b, c, d] = v6.octets();
    let nat64 = matches!(v6.segments(), [0x64, 0xff9b, 0, 0, 0, 0, _, _]);
    if v6.to_ipv4_mapped().is_some() || nat64 {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        address
    }
}

/// This machine, nobody, or everybody.
fn is_here(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_multicast(),
    }
}

/// Link-local and unspecified addresses, and where clouds keep the credentials of their machines.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // All of 0.0.0.0/8 is "this network" (RFC 6890).
            v4.is_link_local() || v4.octets().starts_with(&[0]) || METADATA_V4.contains(&v4)
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || METADATA_V6.contains(&v6),
    }
}

/// Hosts of the proxies that the environment names: an administrator's choice, often on loopback.
fn proxies() -> BTreeSet<String> {
    PROXY_VARIABLES
        .into_iter()
        .filter_map(|name| env::var(name).ok())
        .filter_map(|text| {
            let text = if text.contains("://") {
                text
            } else {
                format!("http://{text}")
            };
            Url::parse(&text).ok()?.host_str().map(str::to_owned)
        })
        .collect()
}

const PROXY_VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// Alibaba's metadata service, Azure's wire server and Oracle's metadata service; all others are link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The metadata services of AWS and Google over IPv6.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0x0ce, 0, 0, 0, 0, 0, 0x254),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(server: &str, origin: Origin) -> Guard {
        Guard::new(&Url::parse(server).unwrap(), origin)
    }

    #[test]
    fn an_image_cannot_choose_an_address_of_ours() {
        let derived = guard("https://registry.example.com", Origin::Image);
        let configured = guard("https://trust.example.com", Origin::Configured);
        for (host, from_image, from_configuration) in [
            ("127.0.0.1", true, false),
            ("127.9.9.9", true, false),
            ("0x7f.1", true, false),
            ("2130706433", true, false),
            ("[::1]", true, false),
            ("[::ffff:127.0.0.1]", true, false),
            ("224.0.0.1", true, false),
            ("255.255.255.255", true, false),
            ("0.0.0.0", true, true),
            ("[::]", true, true),
            ("169.254.169.254", true, true),
            ("[::ffff:169.254.169.254]", true, true),
            ("[64:ff9b::a9fe:a9fe]", true, true),
            ("[fe80::1]", true, true),
            ("[fd00:ec2::254]", true, true),
            ("100.100.100.200", true, true),
            ("10.0.0.1", false, false),
            ("192.168.1.1", false, false),
            ("[fd00::1]", false, false),
            ("93.184.216.34", false, false),
            ("name.example", false, false),
        ] {
            let url = Url::parse(&format!("https://{host}/v2/")).unwrap();
            assert_eq!(derived.admit(&url).is_err(), from_image, "{host} from an image");
            assert_eq!(
                configured.admit(&url).is_err(),
                from_configuration,
                "{host} beside a configured server"
            );
        }
    }

    #[test]
    fn a_configured_server_may_be_anywhere() {
        for server in ["http://127.0.0.1:4443", "https://169.254.1.1"] {
            let url = Url::parse(server).unwrap();
            assert!(guard(server, Origin::Configured).admit(&url).is_ok(), "{server}");
            assert!(guard(server, Origin::Image).admit(&url).is_err(), "{server}");
        }
    }

    /// CRED-22: what clouds serve there are credentials of the node.
    #[test]
    fn attack_a_namespaces_policy_names_a_metadata_address() {
        for (server, fine) in [
            ("https://169.254.169.254", false),
            ("https://[fd00:ec2::254]", false),
            ("https://10.0.0.1", true),
            ("https://trust.example.com", true),
        ] {
            let url = Url::parse(server).unwrap();
            assert_eq!(
                guard(server, Origin::Namespace).admit(&url).is_ok(),
                fine,
                "{server}"
            );
        }
    }

    #[test]
    fn an_image_cannot_hide_behind_the_name_of_a_proxy() {
        let proxies = BTreeSet::from(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        for (server, origin, want) in [
            ("https://localhost:3128", Origin::Image, false),
            ("https://127.0.0.1:3128", Origin::Image, false),
            ("https://localhost:4443", Origin::Configured, true),
        ] {
            let url = Url::parse(server).unwrap();
            let guard = Guard::with_proxies(&url, origin, proxies.clone());
            assert_eq!(guard.admit(&url).is_ok(), want, "{server}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused() {
        let refused = guard("https://registry.example.com", Origin::Image);
        let error = refused.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.is::<Forbidden>());
        let allowed = guard("https://localhost", Origin::Configured);
        assert!(allowed.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
