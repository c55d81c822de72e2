"""The survey's case study on the catalogue's files."""

from ridgeline.api.names import load_chip, load_model
from ridgeline.catalogue.published import case_study_figures
from ridgeline.errors import InputError
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.survey.case_study import CaseStudy, Designs, Published, run_case_study


def casestudy(*, mappings: int = 20_000) -> CaseStudy:
    """Turn an accelerator for convolutional networks into one for transformers, step by step, beside the survey's figures.

    `mappings` random mappings are drawn for the statistics of the space of mappings. Takes some seconds.
    """
    if mappings < 100:
        raise InputError(f"mappings {mappings}: percentiles need at least 100")
    designs = Designs(
        baseline=load_chip("gemmini"),
        rebalanced=load_chip("gemmini-rebalanced"),
        integer=load_chip("gemmini-ibert"),
        analytic=load_chip("survey-analytic"),
        resnet=_network("resnet-50"),
        bert=_transformer("bert-base"),
        bert_large=_transformer("bert-large"),
        gpt2=_transformer("gpt2"),
    )
    figures = {
        name: Published(value=one["value"], where=one["where"], remark=one["remark"]) for name, one in case_study_figures().items()
    }
    return run_case_study(designs, figures, mappings=mappings)


def _transformer(name: str) -> Model:
    model = load_model(name)
    if not isinstance(model, Model):
        raise InputError(f"{name} is no transformer")
    return model


def _network(name: str) -> ConvolutionalModel:
    model = load_model(name)
    if not isinstance(model, ConvolutionalModel):
        raise InputError(f"{name} is no convolutional network")
    return model
