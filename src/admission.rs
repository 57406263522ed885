//! An AdmissionReview in, a reply out.
