//! One line of a host file.

use super::{Host, HostProblem};

/// The host of a line, whose name may have ranges; none where there is nothing but a comment.
pub(super) fn parse(line: &str) -> Result<Option<Host>, HostProblem> {
    let mut words = line
        .split_whitespace()
        .take_while(|word| !word.starts_with('#'));
    let Some(target) = words.next() else {
        return Ok(None);
    };
    let mut host = parse_target(target)?;
    for word in words {
        let unknown = || HostProblem::Option(word.to_owned());
        let (key, value) = word.split_once('=').ok_or_else(unknown)?;
        let twice = || Err(HostProblem::Twice(key.to_owned()));
        match key {
            "slots" => {
                let slots = value
                    .parse()
                    .map_err(|_| HostProblem::Slots(value.to_owned()))?;
                if host.slots.replace(slots).is_some() {
                    return twice();
                }
            }
            "memory" => {
                if host.memory.replace(value.to_owned()).is_some() {
                    return twice();
                }
            }
            _ => {
                let label = key.strip_prefix("label.").filter(|label| !label.is_empty());
                let label = label.ok_or_else(unknown)?.to_owned();
                if host.labels.insert(label, value.to_owned()).is_some() {
                    return twice();
                }
            }
        }
    }
    Ok(Some(host))
}

/// `[USER@]NAME[:PORT]`.
fn parse_target(target: &str) -> Result<Host, HostProblem> {
    let (user, rest) = match target.rsplit_once('@') {
        Some((user, rest)) => (Some(user.to_owned()), rest),
        None => (None, target),
    };
    // Brackets with colons in them are an address, others a range.
    let address = rest
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .filter(|(address, _)| address.contains(':'));
    let (name, port) = match address {
        Some((address, "")) => (address, None),
        Some((address, after)) => {
            let port = after.strip_prefix(':').ok_or(HostProblem::Address)?;
            (address, Some(port))
        }
        None => match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(HostProblem::Address),
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map(|port| match port.parse() {
        Ok(number) if number != 0 => Ok(number),
        _ => Err(HostProblem::Port(port.to_owned())),
    });
    Ok(Host {
        user,
        port: port.transpose()?,
        ..Host::new(name)
    })
}
