//! Admission reviews without I/O: a review in, a reply out (kubernetes-admission §1).
//!
//! | module | answers |
//! | --- | --- |
//! | [`wire`] | what the API server asked, and how an answer is written |
//! | [`workload`] | whether the object holds a pod specification, and where |
//! | [`images`] | every place that names an image, and which of them changed |
//! | [`logins`] | where the logins are that the images are pulled with |
//! | [`patch`] | the JSON Patch that pins them |
//! | [`verdict`] | yes or no, in words that fit where they will be shown |
//!
//! Nothing here knows a policy or a signature, and nothing is admitted for an annotation, a label or an owner: all
//! three are the user's to write (ADM-35, ADM-45). An owner only keeps a template as it was written (ADM-34), and one
//! annotation asks for a bypass that the API server has to grant to the user of the very request (design §3).

pub mod images;
pub mod logins;
pub mod patch;
pub mod verdict;
pub mod wire;
pub mod workload;
