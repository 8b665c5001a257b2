//! Which attributes executions have: the server's own, and how a name in a query finds one.

use std::collections::BTreeMap;

use bristlecone_proto::temporal::api::enums::v1::IndexedValueType as Kind;

use super::FilterError;

/// A search attribute that a filter tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub kind: Kind,
}

/// Attributes that every execution has or may have; users cannot set them.
pub const SYSTEM: [(&str, Kind); 16] = [
    ("WorkflowId", Kind::Keyword),
    ("RunId", Kind::Keyword),
    ("WorkflowType", Kind::Keyword),
    ("StartTime", Kind::Datetime),
    ("ExecutionTime", Kind::Datetime),
    ("CloseTime", Kind::Datetime),
    ("ExecutionStatus", Kind::Keyword),
    ("TaskQueue", Kind::Keyword),
    ("HistoryLength", Kind::Int),
    ("ExecutionDuration", Kind::Int),
    ("StateTransitionCount", Kind::Int),
    ("HistorySizeBytes", Kind::Int),
    ("ParentWorkflowId", Kind::Keyword),
    ("ParentRunId", Kind::Keyword),
    ("RootWorkflowId", Kind::Keyword),
    ("RootRunId", Kind::Keyword),
];

/// Attributes with a meaning to server or SDKs that are kept among an execution's search attributes.
pub const PREDEFINED: [(&str, Kind); 17] = [
    ("TemporalChangeVersion", Kind::KeywordList),
    ("BinaryChecksums", Kind::KeywordList),
    ("BuildIds", Kind::KeywordList),
    ("BatcherNamespace", Kind::Keyword),
    ("BatcherUser", Kind::Keyword),
    ("TemporalScheduledStartTime", Kind::Datetime),
    ("TemporalScheduledById", Kind::Keyword),
    ("TemporalSchedulePaused", Kind::Bool),
    (NAMESPACE_DIVISION, Kind::Keyword),
    ("TemporalPauseInfo", Kind::KeywordList),
    ("TemporalReportedProblems", Kind::KeywordList),
    ("TemporalWorkerDeploymentVersion", Kind::Keyword),
    ("TemporalWorkflowVersioningBehavior", Kind::Keyword),
    ("TemporalWorkerDeployment", Kind::Keyword),
    ("TemporalUsedWorkerDeploymentVersions", Kind::KeywordList),
    ("TemporalExternalPayloadCount", Kind::Int),
    ("TemporalExternalPayloadSizeBytes", Kind::Int),
];

/// Set on executions that are the server's own, which users don't see unless they ask.
pub const NAMESPACE_DIVISION: &str = "TemporalNamespaceDivision";

const RESERVED_PREFIX: &str = "Temporal";
const RESERVED: [&str; 4] = ["NamespaceId", "MemoEncoding", "Memo", "VisibilityTaskKey"];

/// Type of one of the server's own attributes.
pub fn type_of(name: &str) -> Option<Kind> {
    SYSTEM.iter().chain(&PREDEFINED).find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Whether users may not define a search attribute of this name.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX) || type_of(name).is_some() || RESERVED.contains(&name)
}

/// What a name in a query means.
pub(super) enum Names<'a> {
    /// As users write them; the map holds the namespace's own attributes, name to type.
    Namespace(&'a BTreeMap<String, i32>),
    /// As filters are printed: a namespace's own attribute carries its type.
    Typed,
}

impl Names<'_> {
    pub fn find(&self, name: &str) -> Result<Attribute, FilterError> {
        let found = match self {
            Self::Namespace(custom) => custom_attribute(custom, name).or_else(|| own_attribute(name)),
            Self::Typed => typed_attribute(name),
        };
        found.ok_or_else(|| FilterError::Invalid(format!("column name '{name}' is not a valid search attribute")))
    }
}

/// A name as filters are printed.
pub(super) fn typed_name(attribute: &Attribute) -> String {
    match type_of(&attribute.name) {
        Some(_) => attribute.name.clone(),
        None => format!("{}:{}", attribute.kind.as_str_name(), attribute.name),
    }
}

fn typed_attribute(name: &str) -> Option<Attribute> {
    if let Some(kind) = type_of(name) {
        return Some(Attribute { name: name.to_owned(), kind });
    }
    let (kind, name) = name.split_once(':')?;
    Some(Attribute { name: name.to_owned(), kind: Kind::from_str_name(kind)? })
}

fn custom_attribute(custom: &BTreeMap<String, i32>, name: &str) -> Option<Attribute> {
    if type_of(name).is_some() {
        return None;
    }
    let kind = Kind::try_from(*custom.get(name)?).ok()?;
    Some(Attribute { name: name.to_owned(), kind })
}

/// The server's own, also by their other names: the id of a schedule is that of its workflow, and the
/// prefix may be left out or added.
fn own_attribute(name: &str) -> Option<Attribute> {
    let stripped = name.strip_prefix(RESERVED_PREFIX);
    let candidates = [
        Some(name.to_owned()),
        (stripped.unwrap_or(name) == "ScheduleId").then(|| "WorkflowId".to_owned()),
        stripped.map(str::to_owned),
        stripped.is_none().then(|| format!("{RESERVED_PREFIX}{name}")),
    ];
    candidates.into_iter().flatten().find_map(|name| type_of(&name).map(|kind| Attribute { name, kind }))
}
