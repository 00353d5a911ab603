"""A maker of small prepared tfds sets."""

import pytest


@pytest.fixture
def store():
    """store(folder, features, splits, ...) prepares a set in a tfds data directory, without a network.

    `splits` is {split: {feature: list of values}}.
    """
    import tensorflow_datasets as tfds

    def store(folder, features, splits, name="tiny", version="1.0.0", config=None, keys=None):
        class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, version=version)] if config else []

            def _info(self):
                described = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=described, supervised_keys=keys)

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(columns) for split, columns in splits.items()}

            def _generate_examples(self, columns):
                for i, values in enumerate(zip(*columns.values())):
                    yield i, dict(zip(columns, values))

        Tiny.name = name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tfds.core.DatasetInfo, "initialize_from_bucket", lambda self: None)
            config = tfds.download.DownloadConfig(try_download_gcs=False)
            Tiny(data_dir=str(folder)).download_and_prepare(download_config=config)

    return store
