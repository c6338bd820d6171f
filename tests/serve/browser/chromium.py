"""A real Chromium without a window, and what people and attackers do with it."""

import shutil
from collections.abc import Callable
from typing import Any, TypeVar

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE_S = 20
Found = TypeVar("Found")
# What an injected text would set, and what the browser would say of an attempt. Put into every document first.
PLANTED = """
window.ran = []; window.violations = [];
window.xss = window.alert = window.confirm = window.prompt = (...said) => { window.top.ran.push(String(said)); };
addEventListener("securitypolicyviolation", (event) => window.top.violations.push(event.violatedDirective));
"""


def find_chromium() -> tuple[str, str] | None:
    """The paths of Chromium and of its driver, if this machine has both."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Chromium:
    def __init__(self, browser: str, driver: str) -> None:
        options = ChromeOptions()
        options.binary_location = browser
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-GB"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(driver))
        self.driver.set_page_load_timeout(PATIENCE_S)
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": PLANTED})

    def close(self) -> None:
        self.driver.quit()

    def show(self, width: int, height: int, scheme: str = "light") -> None:
        """What the next page is looked at on."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        touch = {"enabled": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touch)
        scheme_wanted = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_wanted]})

    def go(self, address: str) -> None:
        self.driver.get(address)

    def forget(self) -> None:
        """Be somebody who has not been here before."""
        self.driver.delete_all_cookies()

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.wait(lambda: self.all(selector) or None)[0]

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def wait(self, found: Callable[[], Found | None]) -> Found:
        """What is found, as soon as there is something. Raises TimeoutException after PATIENCE_S."""
        return WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.02).until(lambda _: found())  # type: ignore[return-value]

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait(lambda: any(text in element.text for element in self.all(selector)) or None)

    def press(self, *keys: str) -> None:
        """Keys one after the other, wherever the focus is. Each string is typed as it stands."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def press_with(self, held: str, key: str) -> None:
        ActionChains(self.driver).key_down(held).send_keys(key).key_up(held).perform()

    def complaints(self) -> list[str]:
        """What the console was told since this was last asked, but for refusals of the server."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in said if "the server responded with a status of 4" not in message]

    def nodes(self) -> list[dict[str, Any]]:
        """What assistive technology is told of the page."""
        return self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
