//! DER as far as keys need it written. What is written may be secret, so every piece clears itself.

use spki::ObjectIdentifier;
use zeroize::Zeroizing;

/// Tags of the universal class.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
/// A whole element.
pub(super) const NULL: [u8; 2] = [0x05, 0];
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// One element: tag, length, and `parts` as its content.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // The whole size at once: a vector that grows leaves copies of a secret behind.
    let mut out = Zeroizing::new(Vec::with_capacity(length + 2 + size_of::<usize>()));
    out.push(tag);
    let digits = length.to_be_bytes();
    let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
    match (digits.as_slice(), u8::try_from(digits.len())) {
        ([], _) => out.push(0),
        ([short @ 0..0x80], _) => out.push(*short),
        (long, Ok(count)) => {
            out.push(0x80 | count);
            out.extend_from_slice(long);
        }
        // Lengths have eight digits at most.
        (_, Err(_)) => {}
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A whole number without sign, given as big-endian bytes.
pub(super) fn unsigned(magnitude: &[u8]) -> Zeroizing<Vec<u8>> {
    let zeros = magnitude.iter().take_while(|digit| **digit == 0).count();
    let digits = magnitude.get(zeros..).unwrap_or_default();
    // A first bit that is set would make it negative.
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    element(INTEGER, &[sign, digits])
}

/// An object identifier.
pub(super) fn encoded(oid: ObjectIdentifier) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, &[oid.as_bytes()]).to_vec()
}

/// An ECDSA signature `r ‖ s` of two equal halves as the sequence of two integers that X.509 has.
pub(super) fn signature(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    element(SEQUENCE, &[&unsigned(r), &unsigned(s)]).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_signs_are_written_as_der_wants_them() {
        for (content, head) in [
            (0, vec![4, 0]),
            (0x7f, vec![4, 0x7f]),
            (0x80, vec![4, 0x81, 0x80]),
            (0x1234, vec![4, 0x82, 0x12, 0x34]),
        ] {
            let written = element(OCTET_STRING, &[&vec![7; content]]);
            assert_eq!(written[..head.len()], head);
            assert_eq!(written.len(), head.len() + content);
        }
        for (magnitude, written) in [
            (vec![], vec![2, 1, 0]),
            (vec![0, 0], vec![2, 1, 0]),
            (vec![0, 5], vec![2, 1, 5]),
            (vec![0x80], vec![2, 2, 0, 0x80]),
        ] {
            assert_eq!(*unsigned(&magnitude), written);
        }
        assert_eq!(signature(&[0, 1, 0x80, 0]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 0]);
        assert_eq!(signature(&[0; 96]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }
}
