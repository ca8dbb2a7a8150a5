"""The models of pipelines.yaml: one module a stage. Importing them imports nothing heavy."""

from journeyman.config.compute import ComputeConfig, SamplerConfig, TorchSampler, VllmSampler
from journeyman.config.curate import CurateConfig
from journeyman.config.curriculum import CurriculumConfig
from journeyman.config.evaluate import EvaluateConfig
from journeyman.config.measure import MeasureConfig
from journeyman.config.model import ModelConfig, PretrainedModel, ScratchModel
from journeyman.config.monitors import MonitorsConfig
from journeyman.config.objective import GrpoObjective, NllObjective, ObjectiveConfig
from journeyman.config.pipeline import PipelineConfig
from journeyman.config.problems import DatasetProblems, GeneratedProblems, ProblemsConfig
from journeyman.config.replay import RecalibrationConfig, ReplayConfig
from journeyman.config.rl import CriticConfig, ProcessConfig, RlConfig
from journeyman.config.sft import (
    DistillConfig,
    KeyTokensConfig,
    LinesConfig,
    LoraConfig,
    OptimizerConfig,
    PhaseConfig,
    SftConfig,
)
from journeyman.config.synthesize import (
    AnnotationsTeacherConfig,
    BudgetConfig,
    EndpointTeacherConfig,
    ModelTeacherConfig,
    PolicyTeacherConfig,
    ScriptedTeacherConfig,
    SynthesizeConfig,
    TeacherConfig,
    WriterConfig,
)

__all__ = [
    "AnnotationsTeacherConfig",
    "BudgetConfig",
    "ComputeConfig",
    "CriticConfig",
    "CurateConfig",
    "CurriculumConfig",
    "DatasetProblems",
    "DistillConfig",
    "EndpointTeacherConfig",
    "EvaluateConfig",
    "GeneratedProblems",
    "GrpoObjective",
    "KeyTokensConfig",
    "LinesConfig",
    "LoraConfig",
    "MeasureConfig",
    "ModelConfig",
    "ModelTeacherConfig",
    "MonitorsConfig",
    "NllObjective",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PhaseConfig",
    "PipelineConfig",
    "PolicyTeacherConfig",
    "PretrainedModel",
    "ProblemsConfig",
    "ProcessConfig",
    "RecalibrationConfig",
    "ReplayConfig",
    "RlConfig",
    "SamplerConfig",
    "ScratchModel",
    "ScriptedTeacherConfig",
    "SftConfig",
    "SynthesizeConfig",
    "TeacherConfig",
    "TorchSampler",
    "VllmSampler",
    "WriterConfig",
]
