"""The documentation names every module, every hook and every error where a reader looks for it."""

import ast
import importlib
import inspect
import re
from pathlib import Path

from delira_nca.training.callbacks.abstract_callback import HOOKS

ROOT = Path(__file__).parent.parent
NOT_SHOWN = {"delira_nca", "delira_nca._version", "delira_nca._lazy", "delira_nca.__main__"}


def modules():
    for file in sorted((ROOT / "delira_nca").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if file.name != "__init__.py" and name not in NOT_SHOWN and not file.name.startswith("_"):
            yield name


def test_every_module_is_in_the_reference_once_and_no_other():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.rst"))
    named = re.findall(r"automodule:: (\S+)$", pages, flags=re.MULTILINE)
    assert sorted(named) == sorted(modules())


def documented(docstring, heading="Parameters"):
    """Names in a section of a docstring, or None."""
    section = re.search(rf"^{heading}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    if section is None:
        return None
    entries = [line.split(" : ")[0] for line in section[1].splitlines() if line and not line[0].isspace()]
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}


def test_a_docstring_describes_every_parameter_and_no_other():
    wrong = []
    for file in sorted((ROOT / "delira_nca").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or node.name.startswith("_"):
                continue
            methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
            function = methods.get("__init__") if isinstance(node, ast.ClassDef) else node
            names = documented(ast.get_docstring(node) or "")
            if names is None or function is None:
                continue
            taken = function.args
            required = {each.arg for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)} - {"self", "cls"}
            allowed = required | {each.arg for each in (taken.vararg, taken.kwarg) if each}
            allowed |= {"cls"} & {each.arg for each in taken.args}
            if not required <= names <= allowed:
                wrong.append(f"{file.relative_to(ROOT)}: {node.name}: {sorted(names ^ required)}")
    assert not wrong, "\n".join(wrong)


def test_a_docstring_of_a_record_describes_every_field_and_no_other():
    wrong = []
    for file in sorted((ROOT / "delira_nca").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            marks = {ast.unparse(each).partition("(")[0] for each in (*node.bases, *node.decorator_list)}
            own = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            if not marks & {"NamedTuple", "dataclass"} or "__init__" in own:
                continue
            docstring = ast.get_docstring(node) or ""
            names = documented(docstring) or documented(docstring, "Attributes")
            fields = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
            if names is not None and names - own != {name for name in fields if not name.startswith("_")}:
                wrong.append(f"{file.relative_to(ROOT)}: {node.name}: {sorted(names ^ fields)}")
    assert not wrong, "\n".join(wrong)


def test_hook_page_tells_when_a_hook_runs_and_what_it_is_given():
    diagram, table = (ROOT / "docs" / "hooks.rst").read_text().split("What a hook is given")
    assert not [hook for hook in HOOKS if hook not in diagram or f"``{hook}``" not in table]


def test_hook_page_names_every_keyword():
    page = (ROOT / "docs" / "hooks.rst").read_text()
    missing = {word for words in HOOKS.values() for word in words if f"``{word}``" not in page}
    assert not missing


def rows_of_names():
    page = (ROOT / "docs" / "names.rst").read_text()
    return re.findall(r"^   \* - ``(\w+)``\n     - ``([\w.]+)``\n     - \S", page, flags=re.MULTILINE)


def test_every_name_of_the_page_of_names_can_be_imported_and_is_tested():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    rows = rows_of_names()
    assert len(rows) == 28
    for name, path in rows:
        module, _, last = path.rpartition(".")
        assert last == name
        assert callable(getattr(importlib.import_module(module), name))
        assert re.search(rf"\b{name}\b[(),]", tests), f"{name} is not used by a test"


def test_the_methods_on_the_pages_of_the_originals_are_there():
    methods = {
        "Trainer": "debug_getcnnbatch predict_and_write preview_slice preview_slice_from_traindata run test_model",
        "TracingTrainer": "debug_getcnnbatch run save_batch test_model",
        "TracingTrainerRNN": "run test_model",
        "ExperimentConfig": "check_config levenshtein make_dir read_user_config",
        "HistoryTracker": "load plot register_debug_output_names save update_debug_outputs update_history "
        "update_regression update_timeline",
        "Schedule": "bind_variable update",
        "BackgroundProc": "get reset shutdown",
        "SharedQ": "get startproc",
    }
    homes = dict(rows_of_names())
    for name, listed in methods.items():
        module, _, last = homes[name].rpartition(".")
        cls = getattr(importlib.import_module(module), last)
        assert not [method for method in listed.split() if not callable(getattr(cls, method, None))]


def test_the_arguments_of_the_originals_keep_their_order():
    orders = {
        "TrainingModules": "model loss evaluator",
        "assemble_for_training": "train_loss validation_losses validation_names plot_maker",
        "build_loss_modules": "training_loss validation_losses network_outputs database_inputs",
        "determine_out_in_targ": "nodes_required_for_loss",
        "generate_database_info": "inputs targets allow_unfound",
        "precompute_pairs": "model database batch_size device make_dense n_images",
        "BackgroundProc": "target dtypes shapes n_proc target_args target_kwargs profile",
        "BackgroundProc.get": "self timeout",
        "SharedQ": "n_proc profile",
        "SharedQ.startproc": "self dtypes shapes target target_args target_kwargs",
        "Trainer": "exp_config",
        "Trainer.predict_and_write": "self pred_node raw_img number export_class block_name z_thick",
        "Trainer.preview_slice": "self number export_class max_z_pred",
        "Trainer.preview_slice_from_traindata": "self cube_i off sh number export_class",
        "Trainer.test_model": "self data_source",
        "TracingTrainer": "exp_config",
        "TracingTrainer.debug_getcnnbatch": "self extended",
        "TracingTrainer.save_batch": "img lab k lab_img",
        "TracingTrainerRNN": "exp_config",
        "ExperimentConfig": "exp_file host_script_file use_existing_dir",
        "ExperimentConfig.levenshtein": "s1 s2",
        "HistoryTracker.load": "self file_name",
        "HistoryTracker.plot": "self save_name autoscale close",
        "HistoryTracker.register_debug_output_names": "self names",
        "HistoryTracker.save": "self save_name",
        "HistoryTracker.update_debug_outputs": "self vals",
        "HistoryTracker.update_history": "self vals",
        "HistoryTracker.update_regression": "self pred target",
        "HistoryTracker.update_timeline": "self vals",
        "loadhistorytracker": "file_name",
        "Schedule.bind_variable": "self variable_param obj prop_name",
        "Schedule.update": "self iteration",
        "binary_nll": "pred gt",
        "confusion_table": "labs preds",
        "error_hist": "gt preds save_name thresh",
        "eval_thresh": "args",
        "evaluate": "gt preds save_name thresh n_proc",
        "evaluate_model_binary": "model name data valid_d valid_l train_d train_l n_proc betaloss fudgeysoft",
        "find_nearest": "array value",
        "performance_measure": "tp tn fp fn",
        "rescale_fudge": "pred fudge",
        "roc_area": "tpr fpr",
        "user_input": "local_vars",
    }
    homes, wrong = dict(rows_of_names()), {}
    assert {name.partition(".")[0] for name in orders} >= homes.keys() - {"TimeoutError", "SharedMem"}
    for name, order in orders.items():
        first, _, method = name.partition(".")
        found = getattr(importlib.import_module(homes[first].rpartition(".")[0]), first)
        parameters = inspect.signature(getattr(found, method) if method else found).parameters.values()
        names = [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        if names != order.split():
            wrong[name] = names
    assert not wrong
