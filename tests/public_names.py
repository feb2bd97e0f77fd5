"""Every public name of `thalweg` and of its parts, used as a user would use it.

`.ci/run` checks the types of this file, `test_docs.py` that no name is missing, and running the file that it works.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import thalweg
from thalweg import (
    certificates,
    comparison,
    curvature,
    data,
    diagnosis,
    exports,
    frameworks,
    heads,
    models,
    online,
    optim,
    report,
    serving,
    sklearn,
    tasks,
    training,
)


def small_objective(l2: float = 1e-2) -> thalweg.Objective:
    """Twelve points, three classes, one hidden layer."""
    torch.manual_seed(0)
    model = thalweg.MLP([2, 3], activation=nn.Tanh).double()
    head = thalweg.Softmax(3, 3).double()
    x = torch.randn(12, 2, dtype=torch.float64)
    return thalweg.Objective(model, head, x, torch.arange(12) % 3, l2=l2)


def use_top(folder: Path) -> None:
    run: thalweg.Run = thalweg.train("sunspots", out=folder, name="a", steps=5, say=print)
    status: thalweg.Status = thalweg.load(run.folder).status
    print(status.value, run.predict([{"values": [5.0] * 10, "steps": 1}]))
    try:
        thalweg.train("sunspots", out=folder, epochs=-1)
    except thalweg.InputError as error:
        print(error)
    print(thalweg.__version__)
    objective = small_objective()
    interval: thalweg.Interval = thalweg.certify(objective)
    level: thalweg.Certificate = interval.levels[0]
    assert level.proof in thalweg.Proof
    for operator in (thalweg.Hessian, thalweg.GaussNewton, thalweg.Fisher, thalweg.EmpiricalFisher):
        print(operator(objective).shape)
    batch = thalweg.Batch({"input": torch.ones(2, 2)}, torch.ones(2, 1))
    print(thalweg.Objective(nn.Linear(2, 1), nn.MSELoss(), [batch]).value())
    found: thalweg.Minimum = thalweg.minimize(lambda x: x.square().sum(), torch.ones(2))
    print(found, thalweg.as_objective(torch.sum, torch.ones(2)).value())
    parameters = objective.parameters
    for direction in (
        thalweg.Gradient(),
        thalweg.Update(torch.optim.SGD, lr=0.1),
        thalweg.BFGS(),
        thalweg.SelfScaledBFGS(),
        thalweg.SelfScaledBroyden(),
        thalweg.LBFGS(),
        thalweg.Newton(),
        thalweg.NewtonCG(),
        thalweg.LevenbergMarquardt(),
    ):
        thalweg.Descent(parameters, direction, thalweg.Armijo()).step(objective)
    for step_size in (thalweg.Fixed(0.1), thalweg.StrongWolfe(), thalweg.StochasticArmijo(), thalweg.TrustRegion()):
        direction = thalweg.NewtonCG() if isinstance(step_size, thalweg.TrustRegion) else thalweg.Gradient()
        thalweg.Descent(parameters, direction, step_size).step(objective)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    head: thalweg.AbstractHead = thalweg.Bernoulli(2, 3)
    batch = thalweg.Batch({"input": torch.ones(2, 2)}, torch.ones(2, 3))
    for record in thalweg.fit(
        nn.Identity(), head, torch.optim.SGD(head.parameters(), lr=0.1), lambda _: [batch], steps=1
    ):
        print(record.loss, optimizer)
    table = thalweg.Targets(torch.randn(6, 4))
    for head in (
        thalweg.AnalyticSoftmax(3, table, shortlist=4),
        thalweg.Contrastive(3, table),
        thalweg.Cosine(3, table),
        thalweg.SampledSoftmax(3, table, num_samples=4),
        thalweg.VonMisesFisher(3, table),
    ):
        print(head(torch.ones(1, 3)).shape)
    print(thalweg.Squared(3)(torch.ones(1, 3)).shape)


def use_comparison(folder: Path) -> None:
    found: thalweg.Comparison = thalweg.compare(
        "sunspots", optimizers="adamw,sgd", model="mlp", steps=2, trials=0, seeds=1, out=folder
    )
    same: comparison.Comparison = found
    print(same.sentence, same.rows[0]["loss"], comparison.compare is thalweg.compare)


def use_certificates() -> None:
    groups, labels = np.array([0, 0, 1]), np.array([0, 1, 1])
    print(certificates.class_floor(groups, labels, 2), certificates.error_floor(groups, labels, 2))
    print(certificates.share_interval(45, 50), certificates.kl_inverse(0.1, 0.02))
    z = np.array([[2.0, 0.0], [0.0, 2.0]] * 50)
    drawn: certificates.PacBayes = certificates.gaussian_bound(z, z, np.array([0, 1] * 50), np.ones(100), 0.0, [0.1])
    print(drawn.bound, certificates.pac_bayes_bound(0.1, 5.0, 2000, 0.05))
    half = np.full((3, 2), 0.5)
    print(certificates.soft_floor(groups, half), certificates.answers_floor(groups, half, None, 3.0))
    print(certificates.number_floor(groups, np.array([[1.0], [2.0], [3.0]]), None, 3.0, 0.5))
    print(certificates.levels_floor(certificates.window_levels(np.array([0, 1, 0, 1]), 2), 2))
    found: certificates.Contradictions = certificates.contradictions(groups, labels)
    worst: certificates.Contradiction = found.worst[0]
    print(worst.rows, worst.cost, worst.errors)
    table: list[certificates.ContextFloor] = certificates.context_floors(labels, np.array([3]), (1,))
    suspects: certificates.Suspects = certificates.suspect_labels(certificates.Features(np.eye(3)), labels, 2)
    print(table[0].floor, suspects.order, suspects.own, suspects.likelier)
    print(certificates.norm_floor(np.array([3, 3]), 1.0, 0.1))
    corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    separation: certificates.Separation = certificates.separability(corners, np.array([-1, -1, 1, 1]))
    fewest: certificates.FewestErrors = certificates.fewest_errors(
        corners, np.array([0, 0, 1, 1]), certificates.Gate.OR
    )
    print(separation.separable, fewest.errors, certificates.layer_separable(corners, np.array([0, 1, 2, 2]))[0])
    units = certificates.ThresholdNetwork(np.ones((1, 2)), np.zeros(1), certificates.Gate.SINGLE)
    print(certificates.certify_threshold(corners, np.array([0, 0, 1, 1]), units).bound)
    features, signs = certificates.Features(corners), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    losses = [
        certificates.SquaredLoss(signs),
        certificates.LogisticLoss(0.5 * (signs + 1.0)),
        certificates.SquaredHingeLoss(signs),
        certificates.HingeLoss(signs),
        certificates.SoftmaxLoss.of_labels(torch.tensor([0, 1, 1, 0]), 2),
    ]
    penalties = [certificates.L2(0.1), certificates.L1(0.1), certificates.ElasticNet(0.1, 0.1), certificates.Ball(1.0)]
    for loss in losses:
        for penalty in penalties:
            linear = certificates.Head(features, loss, penalty, intercept=True)
            print(linear.gap(linear.at(torch.zeros(2, loss.num_outputs))))
    objective = small_objective()
    problem, point, _ = certificates.head_problem(objective)
    same: certificates.Head = problem
    print(certificates.polish(same, point))
    verdict: certificates.LocalVerdict = certificates.local_verdict(objective)
    assert verdict.verdict in certificates.Verdict
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    network = models.MLP([1, 2, 1], activation=nn.ReLU).double()
    two_layer = thalweg.Objective(network, nn.MSELoss(), x, x.abs(), l2=1e-2)
    level: certificates.Certificate = certificates.certify_two_layer(two_layer)
    interval = certificates.Interval(loss=level.loss, levels=(level,))
    assert interval.proof in certificates.Proof
    print(certificates.offer_neuron(two_layer))
    bag, head = models.Bag(5, 2).double(), heads.Softmax(2, 2).double()
    inputs = {"tokens": torch.arange(5), "offsets": torch.tensor([0, 2])}
    factored = thalweg.Objective(bag, head, inputs, torch.tensor([0, 1]), l2=1e-2)
    optimizer = certificates.FactoredNewton(factored.parameters)
    optimizer.step(factored)
    print(optimizer.relative_gap)
    chain = heads.CRF(None, 2)
    print(chain.best_path(chain(torch.zeros(1, 3, 2))))
    linear = thalweg.Objective(models.LinearBag(5, 2).double(), heads.Softmax(None, 2), factored.batches, l2=1e-2)
    certificates.LinearNewton(linear.parameters).step(linear)
    features, loss = certificates.Features(torch.eye(2)), certificates.SoftmaxLoss.of_labels(torch.tensor([0, 1]), 2)
    along: certificates.PathPoint = next(certificates.ridge_path(features, loss, [0.1]))
    print(along.gap, next(certificates.factored_path(features, loss, [0.1], width=2)).gap)


def use_curvature() -> None:
    objective = small_objective()
    hessian = curvature.Hessian(objective)
    operators: list[curvature.AbstractOperator] = [
        hessian,
        curvature.GaussNewton(objective),
        curvature.Fisher(objective),
        curvature.EmpiricalFisher(objective),
        curvature.Matrix(torch.eye(3)),
        curvature.Diagonal(torch.ones(3)),
        curvature.Identity([torch.ones(3)]),
    ]
    matrix = operators[4]
    solved: curvature.Solve[Tensor] = curvature.conjugate_gradients(matrix, torch.ones(3))
    print(solved.residual, curvature.minres(matrix, torch.ones(3)).residual)
    spectrum: curvature.Spectrum = curvature.extreme_eigenvalues(hessian, num_largest=1)
    density: curvature.Density = curvature.spectral_density(hessian, num_steps=5)
    print(spectrum.largest, density.nodes.shape)
    estimates: list[curvature.Estimate] = [
        curvature.hutchinson_trace(hessian, 4),
        curvature.hutch_plus_plus(hessian, 6),
        curvature.xtrace(hessian, 6),
        curvature.frobenius_norm(hessian, 4),
        curvature.hessian_trace(hessian),
    ]
    diagonal: curvature.DiagonalEstimate = curvature.hutchinson_diagonal(hessian, 4)
    print(estimates, diagonal.value.shape, curvature.xdiagonal(hessian, 6).value.shape)
    print(curvature.gauss_newton_trace(objective, list(objective.parameters)))
    root: curvature.Root = curvature.gauss_newton_root(objective)
    print(root.matrix.shape, curvature.gauss_newton_diagonal(objective, list(objective.parameters)).shape)
    blocks: list[curvature.Block] = curvature.kronecker_factors(
        objective, objective.parameters, sharing=curvature.Sharing.REDUCE
    )
    bases = [curvature.Eigenbasis.of(block) for block in blocks]
    print(curvature.second_moments(objective, objective.parameters, bases)[0])
    inverse = curvature.KroneckerInverse(bases, objective.parameters, [0.1] * len(objective.parameters))
    print(inverse.shape)
    print(curvature.Hessian(objective, scheme=curvature.Scheme.KEPT_GRAPH).shape)
    print([isinstance(each, curvature.AbstractCurvature | curvature.AbstractSandwich) for each in operators])
    assert issubclass(curvature.CurvatureError, Exception)


def use_data(folder: Path) -> None:
    path = folder / "texts.csv"
    path.write_text("text,label\na fine film,good\na dull film,bad\nlovely songs,good\n" * 5, encoding="utf-8")
    source: data.AbstractSource = data.open_source(path)
    chunk: data.Chunk = next(iter(source.chunks()))
    row: data.Row = next(iter(source.rows()))
    assert data.open_any({"text": ["fine"]}).columns == ("text",)
    print(chunk.columns, row.values, data.name_score("label", "label"))

    def has_text(table: data.Table) -> bool:
        return "text" in table.source.columns

    def choose(table: data.Table) -> data.Choice:
        return data.Choice("own", {"text": table.source.columns[0]}, "The first column.")

    rule = data.Rule(1.0, "there is a column of that name", has_text)
    own = data.TaskColumns("own", {"text": data.Kind.TEXT}, choose, (rule,))
    print(data.guess_task(source, [own])[1], data.choose_columns(source, own).sentence)
    normalizer = data.Normalizer()
    tokenizer: Callable[..., data.Tokenizer] = data.Tokenizer
    print(normalizer("A Film"), tokenizer, data.BagFeatures, data.SAMPLES["sunspots"], data.sunspots()[0])
    ragged = data.Ragged(np.array([1, 2, 3]), np.array([0, 1, 3]))
    examples = data.Examples({"tokens": ragged, "label": np.array([0, 1])})
    print(len(examples), data.Order(2, 1, seed=0), data.same_rows(np.array([1, 1, 2])))
    print(data.Standardizer.fit(np.array([[1.0], [2.0]]), "range"))
    vectors_path = folder / "vectors.txt"
    vectors_path.write_text("film 0.1 0.2\nsong 0.3 0.4\n", encoding="utf-8")
    vectors: data.WordVectors = data.read_word_vectors(vectors_path)
    print(vectors.words)


def use_diagnosis() -> None:
    objective = small_objective()
    assert isinstance(thalweg.diagnose(objective, seconds=1.0), thalweg.Diagnosis)
    plane: diagnosis.Landscape = diagnosis.landscape(objective, ["random", "gradient"], points=3)
    line: diagnosis.Between = diagnosis.between(objective, small_objective(), points=3)
    print(plane.losses, line.barrier)
    model, inputs, targets = nn.Linear(2, 2), torch.ones(2, 2), torch.tensor([0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = diagnosis.Watch(model, optimizer)
    loss = nn.functional.cross_entropy(model(inputs), targets)
    watch.loss(loss, targets)
    loss.backward()
    optimizer.step()
    print(watch.history, watch.findings())
    found: diagnosis.Diagnosis = diagnosis.diagnose(objective)
    repair: diagnosis.Repair = diagnosis.Repair("Lower the rate.", {"lr": 1e-3})
    finding = diagnosis.Finding("loss-spikes", diagnosis.Severity.NOTE, "Two spikes.", repair)
    print(found, finding.to_json())

    class DiagnoseTrainer(diagnosis.TrainerDiagnosis): ...  # and TrainerCallback

    class DiagnoseLightning(diagnosis.LightningDiagnosis): ...  # and Callback

    print(DiagnoseTrainer().watch, DiagnoseLightning("model").watch)


def use_exports(folder: Path) -> None:
    run = training.train("sunspots", out=folder, name="exported")
    print(exports.export_onnx(run, folder / "exported-onnx")["largest_difference"])
    print(exports.export_transformers)  # of runs of a pretrained model


def use_frameworks() -> None:
    objective = small_objective()

    class InLightning(frameworks.LightningSteps): ...  # and LightningModule

    class InTrainer(frameworks.TrainerSteps): ...  # and Trainer

    optimizer = thalweg.Descent(objective.parameters)
    loss: Tensor = optimizer.evaluate(objective)
    print(loss, optimizer.evaluates, InLightning.minimized, InTrainer.training_step)


def use_heads() -> None:
    hidden, ids = torch.ones(2, 3), torch.tensor([4, 5])
    table = heads.random_table(6, 4)
    known = torch.tensor([True, True, False, False, True, True])
    for other in (heads.hypercube_table(6, 4), heads.completed_table(table, known)):
        print(heads.combined_table(table, other).shape)
    targets = heads.Targets(table)
    families: list[heads.AbstractContinuous] = [
        heads.AnalyticSoftmax(3, targets, shortlist=4),
        heads.Contrastive(3, targets),
        heads.SampledSoftmax(3, targets, num_samples=4),
        heads.L2(3, targets),
        heads.Cosine(3, targets),
        heads.PowerSpherical(3, targets),
        heads.VonMisesFisher(3, targets),
        heads.MaxMargin(3, targets),
        heads.SyntheticMargin(3, targets),
        heads.Triplet(3, targets),
    ]
    for head in families:
        total, count = head.loss(head(hidden), ids)
        print(total / count, isinstance(head, heads.AbstractDirectional))
    cosine = heads.Cosine(3, targets)
    decoding = heads.CandidateDecoding(cosine, shortlist=torch.arange(4), num_near=2, num_sampled=2)
    print(decoding.decode(cosine(hidden), 2), heads.ApproximateIndex)  # the index needs the extra `ann`
    for head in (heads.Softmax(3, 6), heads.Bernoulli(3, 2), heads.Squared(3), heads.as_head(nn.MSELoss())):
        abstract: heads.AbstractHead = head
        print(abstract)
    head = heads.Softmax(3, 6)
    form: heads.LinearForm | None = head.linear_form(hidden, ids, None, None)
    assert form is not None
    assert form.loss in heads.ConvexLoss
    for penalty in (heads.Kernel(), heads.KoLeo(), heads.Sliced()):
        print(penalty(table))
    spread: heads.Dispersion = heads.dispersion_of(table)
    print(spread.effective_rank)
    print(heads.bessel_ratio(torch.tensor([1.0]), 4), heads.log_partition(torch.tensor([1.0]), 4))
    mask = heads.expand_to(torch.tensor([True, False]), torch.Size([2]), "mask")
    print(heads.masked(mask, heads.upcast(torch.ones(2))), heads.top_k(torch.randn(2, 6), 2))


def use_models() -> None:
    tokens, mask = torch.tensor([[2, 3, 4]]), torch.ones(1, 3, dtype=torch.bool)
    encoder = models.Encoder(8, 4, hidden=8, layers=1, heads=2)
    print(encoder(tokens, mask).shape, models.Decoder(8, 4, hidden=8, layers=1, heads=2)(tokens).shape)
    print(models.Recurrent(8, 4, hidden=4)(tokens, mask).shape)
    print(models.Pair(models.Bag(8, 4)), models.RecurrentWindow(1, hidden=4), models.RecurrentStack(1, 4))
    print(models.EncoderDecoder(8, 8, 4, hidden=8, layers=1, heads=2), models.Translator(8, 8, 4, hidden=4))
    print(
        models.Attention(4, 2),
        models.Stack(4, hidden=8, layers=1, heads=2, dropout=0.0),
        models.SinusoidalPositions(4, 8),
    )
    print(models.LearnedPositions(4, 8), models.Pretrained)  # which wraps a Hugging Face model
    print(models.MaskedLinear(models.random_mask(3, 2, 0.5)), models.pool.__name__, models.activations.__name__)
    block = models.Block(4, 8, 2, dropout=0.0, activation=nn.GELU, skip=models.PreNorm, causal=False, cross=False)
    print(block, models.ModelOptions(), models.ModelShape())
    skips: list[type[models.AbstractSkip]] = [
        models.NoSkip,
        models.Residual,
        models.PreNorm,
        models.ReZero,
        models.Highway,
    ]
    for skip in skips:
        print(models.MLP([2, 2, 2], activation=nn.Tanh, skip=skip)(torch.ones(1, 2)))
    network = models.MLP([2, 3, 1], activation=nn.Tanh)
    schemes: list[models.AbstractScheme] = [models.Xavier(), models.He(), models.Orthogonal(), models.LSUV()]
    for scheme in schemes:
        print(scheme(network, {"x": torch.randn(8, 2)}))
    print(models.TFixup(), models.gain(nn.Tanh))


def use_online(folder: Path) -> None:
    rows = [{"text": "a fine film", "label": "good"}, {"text": "a dull film", "label": "bad"}]
    for record in online.learn_online(rows, online.OnlineClassifier(), save_folder=folder / "stream"):
        same: online.OnlineRecord = record
        print(same.score)
    print(online.load_online(folder / "stream"))
    numbers = [{"hours": float(h), "load": 2.0 * h} for h in range(8)]
    print(list(online.learn_online(numbers, online.OnlineRegressor(), label_column="load"))[-1].score)


def use_optim() -> None:
    objective = small_objective()
    parameters = list(objective.parameters)
    initials: list[optim.AbstractInitial] = [
        optim.AutomaticInitial(),
        optim.ScaledIdentity(),
        optim.InverseDiagonal(),
        optim.InverseGaussNewton(),
    ]
    directions: list[optim.AbstractDirection] = [
        *(optim.BFGS(initial=initial) for initial in initials),
        optim.SelfScaledBFGS(),
        optim.SelfScaledBroyden(),
        optim.LBFGS(),
        optim.Gradient(),
        optim.Update(torch.optim.SGD, lr=0.1),
        *(optim.Newton(kind, optim.Damping()) for kind in (optim.Absolute(), optim.Floor(), optim.Shift())),
        *(
            optim.NewtonCG(preconditioner=kind)
            for kind in (optim.Jacobi(), optim.KroneckerFactored(), optim.NoPreconditioner())
        ),
        optim.LevenbergMarquardt(),
        optim.KFAC(optim.Damping()),
        optim.Sophia(),
    ]
    for direction in directions:
        print(optim.Descent(parameters, direction, optim.Armijo()).step(objective))
    searches: list[optim.AbstractStepSize] = [optim.Fixed(0.1), optim.StrongWolfe(), optim.StochasticArmijo()]
    for search in searches:
        optim.Descent(parameters, optim.Gradient(), search).step(objective)
    optimizer = optim.Descent(parameters, optim.NewtonCG(), optim.TrustRegion())
    optimizer.step(objective)
    print(optim.Descent(parameters, Steepest(), Half()).step(objective))
    last: optim.StepReport = optimizer.report
    found: optim.Minimum = optim.minimize(objective, callback=lambda iteration, _: iteration.number == 1)
    iteration: optim.Iteration = found.history[0]
    print(iteration.gradient_norm)
    print(last, optim.needs_closure(optimizer), list(optim.Requires), list(optim.Recovery))
    combined = optim.Combined([torch.optim.SGD([parameter], lr=0.1) for parameter in parameters])
    print(len(combined.param_groups))
    averagings: list[optim.AbstractAveraging] = [
        optim.ScheduleFree(combined),
        optim.ExponentialAverage(combined),
        optim.LastAverage(combined),
    ]
    for averaging in averagings:
        with averaging.averaged():
            print(averaging.is_averaged)
    print(isinstance(optimizer, optim.ReportsStatus), isinstance(optimizer, optim.ReportsGap))
    print(optim.AbstractModel, optim.ModelStep, optim.AbstractEigenvalues, optim.AbstractPreconditioner)
    clips: list[optim.AbstractClip] = [optim.NoClip(), optim.ClipNorm(1.0), optim.ClipValue(1.0), optim.ClipAdaptive()]
    clipped: optim.Clipped = optim.ClipSequence(tuple(clips))(parameters)
    print(clipped.norm, optim.ClipUpdate(0.1), optim.ClipRunning().state_dict())
    model, head = nn.Linear(2, 2), nn.Linear(2, 1)
    print(optim.default_learning_rate("sgd"), optim.default_weight_decay("adamw"), len(optim.optimizer_names()))
    automatic: optim.Automatic = optim.make_automatic(model, head, total_steps=10)
    facts: optim.Facts = optim.facts_of(model, head, num_rows=100, batch_rows=10)
    choice: optim.Choice = optim.choose(facts)
    print(automatic.lr, choice.why)
    roles: optim.Roles = optim.roles_of(model, head)
    groups = optim.parameter_groups(roles)
    polar: optim.AbstractPolar = optim.Exact()
    print(len(roles.matrices), optim.SOAP(groups), optim.Shampoo(optim.parameter_groups(model, head)))
    print(optim.PolarMuon(model.parameters(), polar=polar), optim.NorMuon(model.parameters(), polar=optim.Polynomial()))
    print(optim.GreedyLR, optim.takes_score(None))
    for ending in (optim.cosine_with_min_lr, optim.cosine_warmup_with_min_lr):
        print(ending(torch.optim.SGD(parameters, lr=0.1), total_steps=10, warmup=2, min_lr_rate=0.1))
    for schedule in (
        optim.constant,
        optim.constant_with_warmup,
        optim.cosine,
        optim.cosine_with_restarts,
        optim.exponential,
        optim.inverse_sqrt,
        optim.linear,
        optim.polynomial,
        optim.reduce_on_plateau,
        optim.reduce_lr_on_plateau,
        optim.greedy,
        optim.step,
        optim.warmup_stable_decay,
    ):
        print(schedule(optim.make_optimizer(optim.find_optimizer("sgd"), model, head), total_steps=10))


class Steepest(optim.AbstractDirection):
    """A direction of one's own, which counts its steps."""

    requires = optim.Requires.GRADIENT

    def start(self, groups: optim.Groups) -> optim.State:
        return {"count": 0}

    def propose(self, point: optim.Point, state: optim.State) -> optim.SearchDirection:
        return optim.SearchDirection(-point.gradient)

    def learn(self, info: optim.StepInfo, state: optim.State) -> None:
        state["count"] += 1


class Half(optim.AbstractStepSize):
    """A step size of one's own: half of each direction."""

    def search(self, line: optim.Line, state: optim.State) -> optim.SearchResult:
        return optim.SearchResult(0.5, value=line.value_at(0.5))


def use_report(folder: Path) -> None:
    page = report.Report(name="own", task="classify", sentence="A page.", status="done", created="today", version="0")
    report.write_report(folder / "report.html", page)
    print(len(report.render_report(page)))


def use_serving(folder: Path) -> None:
    run = training.train("sunspots", out=folder, name="served")
    service: serving.Service = serving.Service(run, serving.Limits(inputs=10))
    print(service.limits.inputs, serving.serve)


def use_sklearn() -> None:
    texts = [f"{word} {noun}" for word in ("good", "bad") for noun in ("film", "cast", "plot", "end", "start", "play")]
    classifier: sklearn.Classifier = sklearn.Classifier(model="linear", l2=0.1).fit(texts, [1] * 6 + [0] * 6)
    print(classifier.predict(texts[:1]), classifier.predict_proba(texts).shape, classifier.run_.metrics)
    regressor = sklearn.Regressor(l2=0.1).fit(texts, [5.0, 4.5, 4.0] * 2 + [1.0, 1.5, 2.0] * 2)
    print(regressor.score(texts, regressor.predict(texts)))


def use_tasks() -> None:
    kinds: list[type[tasks.AbstractTask]] = [
        tasks.Classify,
        tasks.Tag,
        tasks.Score,
        tasks.Forecast,
        tasks.Language,
        tasks.Translate,
    ]
    print(kinds, tasks.AbstractMeter, tasks.AnswerOptions(top=1))
    spans: list[tasks.Span] = tasks.spans_of(["B-person", "I-person", "O"])
    settings = tasks.Settings(
        columns={"series": ["sunspots"]},
        valid_share=0.1,
        normalize=(),
        tokenizer="word",
        vocabulary_size=1,
        bigrams=0,
        max_length=1,
        lags=12,
        scaling="range",
        layout="window",
    )
    task, prepared = tasks.Forecast.prepare(data.SAMPLES["sunspots"], None, settings)
    same: tasks.Prepared = prepared
    print(spans, len(same.train), task.head(models.MLP([12, 3], activation=nn.Tanh), tasks.HeadOptions()))
    print(tasks.greedy, tasks.beam_search, tasks.sampled, tasks.continue_texts)
    print(tasks.Rules(no_repeat=3), tasks.Sampling(top_k=50), tasks.Hypotheses, tasks.Continuation([1], [-0.5]))


def use_training(folder: Path) -> None:
    run: training.Run = training.train("sunspots", out=folder, name="b", steps=5)
    recipe: training.Recipe = training.read_recipe(run.folder / "recipe.toml")
    print(recipe.training.steps, training.load(run.folder).metrics, training.certify(small_objective()).bound)
    bag = training.train("phrases", out=folder, name="c", steps=2)
    try:
        risk: training.Risk = training.risk_on_new_texts(bag)
        print(risk.sentences)
    except thalweg.InputError as error:  # phrases have numbers, not labels
        print(error)
    head = heads.Squared(2)
    batch = thalweg.Batch({"input": torch.ones(2, 2)}, torch.ones(2))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    stepper: training.AbstractStepper = training.stepper_for(optimizer, clip=optim.ClipNorm(1.0))
    print(training.FirstOrderStepper(optimizer), training.ClosureStepper(optimizer), training.ObjectiveStepper)
    place, options = training.Place(), training.FitOptions(l2=1e-3)
    for record in training.fit(nn.Identity(), head, stepper, lambda _: [batch], steps=2, place=place, options=options):
        same: training.StepRecord = record
        print(same.loss)
    print(training.Feed, training.Evaluation, training.StepOutcome, training.evaluate)


def main(folder: Path) -> None:
    """Use every name."""
    use_top(folder)
    use_comparison(folder)
    use_certificates()
    use_curvature()
    use_data(folder)
    use_diagnosis()
    use_exports(folder)
    use_frameworks()
    use_heads()
    use_models()
    use_online(folder)
    use_optim()
    use_report(folder)
    use_serving(folder)
    use_sklearn()
    use_tasks()
    use_training(folder)
