//! Rejections as gRPC statuses.
//!
//! # Contract
//! A status with a typed detail carries `grpc-status-details-bin`: a `google.rpc.Status` with the same
//! code and message and the detail, which is where SDKs look for it. One without carries none.

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::google::rpc;
use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

/// Some SDKs compare whole type URLs, with this before the message's name.
const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

pub fn of(rejection: Rejection) -> Status {
    let Rejection { code, message, detail } = rejection;
    match detail {
        None => Status::new(Code::from_i32(code), message),
        Some(detail) => {
            let details = details(code, &message, detail);
            Status::with_details(Code::from_i32(code), message, details)
        }
    }
}

fn details(code: i32, message: &str, detail: Any) -> Bytes {
    let name = detail.type_url.rsplit('/').next().unwrap_or_default();
    let detail = Any { type_url: format!("{TYPE_URL_PREFIX}{name}"), value: detail.value };
    rpc::Status { code, message: message.to_owned(), details: vec![detail] }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_machine::reply;
    use bristlecone_proto::temporal::api::errordetails::v1::WorkflowExecutionAlreadyStartedFailure;

    #[test]
    fn a_detail_is_found_where_sdks_look_for_it() {
        let status = of(reply::already_started("taken", "request", "run", "first"));
        assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "taken"));
        let details = rpc::Status::decode(status.details()).expect("details are a google.rpc.Status");
        assert_eq!((details.code, details.message.as_str()), (6, "taken"));
        let [detail] = details.details.as_slice() else { panic!("one detail, not {:?}", details.details) };
        assert_eq!(
            detail.type_url,
            "type.googleapis.com/temporal.api.errordetails.v1.WorkflowExecutionAlreadyStartedFailure"
        );
        let failure =
            WorkflowExecutionAlreadyStartedFailure::decode(detail.value.as_slice()).expect("the failure itself");
        assert_eq!((failure.start_request_id.as_str(), failure.run_id.as_str()), ("request", "run"));
    }

    #[test]
    fn every_code_of_the_core_is_a_status_of_its_own() {
        use bristlecone_machine::reply::code;
        let codes = [
            (code::INVALID_ARGUMENT, Code::InvalidArgument),
            (code::DEADLINE_EXCEEDED, Code::DeadlineExceeded),
            (code::NOT_FOUND, Code::NotFound),
            (code::ALREADY_EXISTS, Code::AlreadyExists),
            (code::PERMISSION_DENIED, Code::PermissionDenied),
            (code::RESOURCE_EXHAUSTED, Code::ResourceExhausted),
            (code::FAILED_PRECONDITION, Code::FailedPrecondition),
            (code::ABORTED, Code::Aborted),
            (code::UNIMPLEMENTED, Code::Unimplemented),
            (code::INTERNAL, Code::Internal),
            (code::UNAVAILABLE, Code::Unavailable),
        ];
        for (number, code) in codes {
            let status = of(reply::plain(number, "why"));
            assert_eq!((status.code(), status.message(), status.details()), (code, "why", b"".as_slice()));
        }
        assert_eq!(of(reply::plain(99, "?")).code(), Code::Unknown);
    }
}
